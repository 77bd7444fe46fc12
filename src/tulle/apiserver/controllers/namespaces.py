"""Namespaces: what each one gets when it comes, and how each one is emptied before it goes."""

from __future__ import annotations

from tulle.apiserver.controllers.inventory import Entry, Inventory
from tulle.apiserver.controllers.objects import Object, is_deleting
from tulle.apiserver.controllers.work import Mirror, delete, in_parallel
from tulle.errors import Conflict
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.queue import Queue
from tulle.kube.resources import CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS, Resource

FINALIZER = "kubernetes"
ROOT_CA = "kube-root-ca.crt"


def furniture(ca_pem: str) -> dict[Resource[Object], Object]:
    """What every namespace has: a service account for its Pods, and the CA of the API server."""
    return {
        SERVICEACCOUNTS: {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}},
        CONFIGMAPS: {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOT_CA},
            "data": {"ca.crt": ca_pem},
        },
    }


class Namespaces:
    """Looks at a namespace when it changes, when its furniture does, and while it is emptied."""

    def __init__(self, client: Client, namespaces: Mirror, inventory: Inventory, ca_pem: str) -> None:
        self._client, self._namespaces, self._inventory = client, namespaces, inventory
        self._queue: Queue[str] = Queue("namespace")
        self._furniture = furniture(ca_pem)
        self.informers = {
            resource: Informer(client, resource, field_selector=f"metadata.name={obj['metadata']['name']}")
            for resource, obj in self._furniture.items()
        }
        namespaces.informer.subscribe(lambda change: self._queue.add(change.key[1]))
        inventory.subscribe(self._content_changed)
        for informer in self.informers.values():
            informer.subscribe(self._furniture_changed)

    def _content_changed(self, before: Entry | None, after: Entry | None) -> None:
        if before is not None and after is None and before.metadata.namespace:
            namespace = self._namespaces.get(("", before.metadata.namespace))
            if namespace is not None and is_deleting(namespace):
                self._queue.add(before.metadata.namespace)

    def _furniture_changed(self, change: Change[Object]) -> None:
        if change.kind != "added":
            self._queue.add(change.key[0])

    async def run(self) -> None:
        """Never returns."""
        await self._inventory.synced()
        for informer in self.informers.values():
            await informer.synced.wait()
        await self._queue.run(self._look_at)

    async def _look_at(self, name: str) -> None:
        namespace = self._namespaces.get(("", name))
        if namespace is None:
            return
        if not is_deleting(namespace):
            await self._furnish(name)
        elif FINALIZER in namespace["spec"].get("finalizers", []):
            await self._empty(name)

    async def _furnish(self, name: str) -> None:
        for resource, wanted in self._furniture.items():
            found = self.informers[resource].objects.get((name, wanted["metadata"]["name"]))
            try:
                if found is None:
                    await self._client.create(resource, wanted, name)
                elif found.get("data") != wanted.get("data"):
                    patch = {"data": wanted.get("data")}
                    await self._client.patch(resource, wanted["metadata"]["name"], patch, name)
            except Conflict:
                continue  # somebody was faster, and the watch will say so

    async def _empty(self, name: str) -> None:
        """Until nothing is left; what takes its time to go brings us back here when it is gone."""
        lists = {
            resource: await self._client.list(resource, name) for resource in self._inventory.namespaced()
        }
        left = [(resource, obj) for resource, found in lists.items() for obj in found.items]
        deletable = [(resource, obj) for resource, obj in left if not obj.metadata.deletion_timestamp]
        await in_parallel(
            delete(self._client, resource, (name, obj.metadata.name), obj.metadata.uid)
            for resource, obj in deletable
        )
        if deletable:
            self._queue.add(name)
        elif not left:
            await self._release(name)

    async def _release(self, name: str) -> None:
        namespace = await self._client.get(NAMESPACES, name)
        kept = [each for each in namespace["spec"].get("finalizers", []) if each != FINALIZER]
        namespace["spec"] = {**namespace["spec"], "finalizers": kept}
        await self._client.replace(NAMESPACES, name, namespace, subresource="finalize")
