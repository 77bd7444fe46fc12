"""Services, Pods behind them and slices, for the tests of the controllers that make endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any, cast

from controller_objects import Object, metadata, pod, ready

from tulle.apiserver.controllers.slices import Changes
from tulle.apiserver.controllers.work import Mirror
from tulle.errors import Forbidden
from tulle.kube.cache import Change
from tulle.kube.informer import Informer
from tulle.kube.resources import Key

ZONES = {"n1": "east", "n2": "west", "bare": ""}
_numbers = count(1)


def service(name: str = "web", **spec: Any) -> Object:
    """One that selects ``app=web`` and has port 80 to port 8080, unless ``spec`` says otherwise."""
    meta = {key: spec.pop(key) for key in ("labels", "annotations", "deletionTimestamp") if key in spec}
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    given = {"clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "selector": {"app": "web"}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name, **meta), "spec": given | spec}


def backend(name: str, *ips: str, node: str = "n1", status: Object | None = None, **more: Any) -> Object:
    """A Pod that runs and is ready; without ``ips`` it has one address, made out of its name's number."""
    addresses = ips or (f"10.0.0.{int(name.removeprefix('p') or 0)}",)
    facts = {"phase": "Running", "conditions": ready(), "podIP": addresses[0]}
    facts |= {"podIPs": [{"ip": ip} for ip in addresses], **(status or {})}
    return pod(name, spec={"nodeName": node, **more.pop("spec", {})}, status=facts, **more)


def terminating(found: Object, *, is_ready: bool = True) -> Object:
    status = {**found["status"], "conditions": ready("True" if is_ready else "False")}
    meta = {**found["metadata"], "deletionTimestamp": "2026-05-01T12:00:30Z"}
    return {**found, "metadata": meta, "status": status}


def applied(found: list[Object], changes: Changes) -> list[Object]:
    """The slices as the API has them once it has been told ``changes``."""
    gone = {each["metadata"]["name"] for each in (*changes.update, *changes.delete)}
    made = []
    for each in changes.create:
        number = next(_numbers)
        named = {
            "name": f"{each['metadata']['generateName']}{number:05}",
            "uid": f"slice-{number}",
            "resourceVersion": "1",
        }
        made.append({**each, "metadata": {**each["metadata"], **named}})
    return [each for each in found if each["metadata"]["name"] not in gone] + made + changes.update


def addresses(slices: list[Object]) -> list[str]:
    return sorted(ip for each in slices for endpoint in each["endpoints"] for ip in endpoint["addresses"])


class Watched:
    """The half of an informer that mirrors and indexes listen to; ``tell`` is what its watch would say."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.synced = asyncio.Event()
        self._callbacks: list[Callable[[Change[Object]], None]] = []

    def subscribe(self, callback: Callable[[Change[Object]], None]) -> None:
        self._callbacks.append(callback)

    def tell(self, obj: Object, *, gone: bool = False) -> None:
        key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        old = self.objects.pop(key, None)
        if not gone:
            self.objects[key] = obj
        kind: Any = "deleted" if gone else "modified" if old else "added"
        for callback in self._callbacks:
            callback(Change(kind, key, old, None if gone else obj))

    def mirror(self) -> Mirror:
        return Mirror(cast("Informer[Object]", self))


class Api:
    """Takes writes as the API does. ``calls`` has the verb and the name of each, in order."""

    def __init__(self, *, refuses: bool = False) -> None:
        self._refuses = refuses
        self._version = 100
        self.calls: list[tuple[str, str]] = []
        self.news = asyncio.Event()

    def _called(self, verb: str, name: str) -> None:
        self.calls.append((verb, name))
        self.news.set()

    async def create(self, resource: object, obj: Object, namespace: str) -> Object:
        name = obj["metadata"].get("name") or obj["metadata"]["generateName"] + "abcde"
        self._called("create", name)
        if self._refuses:
            raise Forbidden(403, "Forbidden", "the namespace is being terminated")
        return self._stored(obj, name=name, uid="made")

    async def replace(self, resource: object, name: str, obj: Object, namespace: str) -> Object:
        self._called("replace", name)
        return self._stored(obj)

    async def delete(self, resource: object, name: str, *_: object, **__: object) -> None:
        self._called("delete", name)

    def _stored(self, obj: Object, **more: Any) -> Object:
        self._version += 1
        return {**obj, "metadata": {**obj["metadata"], **more, "resourceVersion": str(self._version)}}
