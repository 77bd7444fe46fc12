"""Who owns whom: the metadata of every object of every kind, custom resources included."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import Key, Resource


class Reference(msgspec.Struct, rename="camel", frozen=True):
    api_version: str
    kind: str
    name: str
    uid: str
    block_owner_deletion: bool = False


class Metadata(msgspec.Struct, rename="camel", frozen=True):
    """``resourceVersion`` is left out, so that an object that only reports its state does not change here.

    Of a bookmark's object all of this is empty.
    """

    name: str = ""
    uid: str = ""
    namespace: str = ""
    owner_references: tuple[Reference, ...] = ()
    finalizers: tuple[str, ...] = ()
    deletion_timestamp: str | None = None


class Owned(msgspec.Struct, frozen=True):
    metadata: Metadata


@dataclass(frozen=True)
class Entry:
    """An object and where it lives."""

    resource: Resource[Owned]
    metadata: Metadata


_CRDS: Resource[dict[str, Any]] = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", dict, False
)
_BUILT_IN = (
    ("", "v1", "Namespace Node", False),
    ("", "v1", "Pod Service Endpoints ConfigMap Secret ServiceAccount", True),
    ("apps", "v1", "Deployment ReplicaSet DaemonSet", True),
    ("coordination.k8s.io", "v1", "Lease", True),
    ("discovery.k8s.io", "v1", "EndpointSlice", True),
    ("networking.k8s.io", "v1", "NetworkPolicy Ingress", True),
    ("networking.k8s.io", "v1", "IngressClass ServiceCIDR IPAddress", False),
)
_PLURALS = {"Endpoints": "endpoints", "NetworkPolicy": "networkpolicies"}

EVENTS = Resource("", "v1", "events", "Event", Owned)
"""Not in the inventory, as they own nothing and nothing owns them; but a namespace has to be rid of them."""


class Inventory:
    """``changed`` is told the entry before and after each change, once the inventory has it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._entries: dict[str, Entry] = {}
        self._dependents: defaultdict[str, set[str]] = defaultdict(set)
        self._callbacks: list[Callable[[Entry | None, Entry | None], None]] = []
        self._informers: dict[Resource[Owned], Informer[Owned]] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._crds = Informer(client, _CRDS)
        for group, version, kinds, namespaced in _BUILT_IN:
            for kind in kinds.split():
                plural = _PLURALS.get(kind, kind.lower() + ("es" if kind.endswith("s") else "s"))
                self._follow(Resource(group, version, plural, kind, Owned, namespaced))

    def get(self, uid: str) -> Entry | None:
        return self._entries.get(uid)

    def dependents(self, uid: str) -> list[Entry]:
        return [self._entries[each] for each in self._dependents.get(uid, ())]

    def namespaced(self) -> Iterator[Resource[Owned]]:
        """What can be in a namespace."""
        yield from (resource for resource in self._informers if resource.namespaced)
        yield EVENTS

    def resource(self, api_version: str, kind: str) -> Resource[Owned] | None:
        """None for a kind that nobody here knows."""
        wanted = (api_version, kind)
        return next((r for r in self._informers if (_api_version(r), r.kind) == wanted), None)

    def subscribe(self, changed: Callable[[Entry | None, Entry | None], None]) -> None:
        self._callbacks.append(changed)

    async def synced(self) -> None:
        await self._crds.synced.wait()
        for informer in list(self._informers.values()):
            await informer.synced.wait()

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as group:
            for resource, informer in self._informers.items():
                group.create_task(informer.run(), name=f"inventory-{resource.plural}")
            self._crds.subscribe(lambda change: self._definition_changed(change, group))
            group.create_task(self._crds.run(), name="inventory-definitions")

    def _definition_changed(self, change: Change[dict[str, Any]], group: asyncio.TaskGroup) -> None:
        resource = custom_resource(change.new)
        before = custom_resource(change.old)
        if resource == before:
            return
        if before is not None and (task := self._tasks.pop(change.key, None)):
            task.cancel()
            informer = self._informers.pop(before)
            for key, obj in list(informer.objects.items()):
                self._apply(before, Change("deleted", key, obj, None))
        if resource is not None:
            informer = self._follow(resource)
            self._tasks[change.key] = group.create_task(informer.run(), name=f"inventory-{resource.plural}")

    def _follow(self, resource: Resource[Owned]) -> Informer[Owned]:
        informer = self._informers[resource] = Informer(self._client, resource)
        informer.subscribe(lambda change: self._apply(resource, change))
        return informer

    def _apply(self, resource: Resource[Owned], change: Change[Owned]) -> None:
        before = Entry(resource, change.old.metadata) if change.old else None
        after = Entry(resource, change.new.metadata) if change.new else None
        if before is not None:
            self._entries.pop(before.metadata.uid, None)
            for owner in before.metadata.owner_references:
                self._dependents[owner.uid].discard(before.metadata.uid)
                if not self._dependents[owner.uid]:
                    del self._dependents[owner.uid]
        if after is not None:
            self._entries[after.metadata.uid] = after
            for owner in after.metadata.owner_references:
                self._dependents[owner.uid].add(after.metadata.uid)
        for callback in self._callbacks:
            callback(before, after)


def custom_resource(definition: dict[str, Any] | None) -> Resource[Owned] | None:
    """What an established CustomResourceDefinition defines."""
    conditions = (definition or {}).get("status", {}).get("conditions", [])
    if definition is None or not any(
        c["type"] == "Established" and c["status"] == "True" for c in conditions
    ):
        return None
    spec = definition["spec"]
    version = next(each["name"] for each in spec["versions"] if each["served"])
    names, scope = spec["names"], spec["scope"]
    return Resource(spec["group"], version, names["plural"], names["kind"], Owned, scope == "Namespaced")


def _api_version(resource: Resource[Owned]) -> str:
    return f"{resource.group}/{resource.version}" if resource.group else resource.version
