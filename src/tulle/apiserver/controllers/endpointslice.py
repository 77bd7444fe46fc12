"""EndpointSlices of Services that select Pods (KEP-752): one set for each family and set of ports."""

from __future__ import annotations

from collections.abc import Mapping

from tulle.apiserver.controllers.endpoint_of_pod import (
    API_SERVICE,
    HEADLESS,
    TRIGGER_TIME,
    endpoint_of,
    families_of,
    is_endpoint,
    is_headless,
    ports_of,
)
from tulle.apiserver.controllers.members import Members, selector_of
from tulle.apiserver.controllers.objects import Object, controller_reference, is_deleting, key_of
from tulle.apiserver.controllers.slice_store import SliceStore
from tulle.apiserver.controllers.slices import (
    MANAGED_BY,
    SERVICE_NAME,
    Changes,
    Group,
    Part,
    arrange,
    group_of,
)
from tulle.apiserver.controllers.trigger_times import TriggerTimes
from tulle.apiserver.controllers.work import synced
from tulle.kube.queue import Queue
from tulle.kube.resources import SERVICES, Key

MANAGER = "endpointslice-controller.k8s.io"

LIMIT = 100
"""Endpoints in one slice, Kubernetes' default."""

_RESERVED = (HEADLESS, SERVICE_NAME, MANAGED_BY)


def plan(
    service: Object, pods: list[Object], zones: Mapping[str, str], found: list[Object], limit: int = LIMIT
) -> Changes:
    """``pods`` are those that ``service`` selects, ``found`` the slices that were made for it.

    A family without any endpoint has one slice without ports. A Service that selects no Pods any more has
    none, where Kubernetes leaves them as they were, with endpoints that nobody keeps up to date. One that is
    being deleted gets no new slices: they would be made while the garbage collector takes them away.
    """
    if not selector_of(service):
        return Changes(delete=found)
    wanted = {
        group: part
        for family in families_of(service, pods)
        for group, part in _parts(service, pods, zones, family).items()
    }
    changes = arrange(_metadata(service), wanted, found, limit)
    return Changes([], changes.update, changes.delete) if is_deleting(service) else changes


def _parts(service: Object, pods: list[Object], zones: Mapping[str, str], family: str) -> dict[Group, Part]:
    parts: dict[Group, Part] = {}
    for pod in pods:
        endpoint = endpoint_of(pod, service, family, zones) if is_endpoint(pod, terminating=True) else None
        if endpoint is not None:
            ports = ports_of(service, pod)
            parts.setdefault(group_of(family, ports), Part(ports, [])).endpoints.append(endpoint)
    return parts or {group_of(family, ()): Part([], [])}


def _metadata(service: Object) -> Object:
    """Of a new slice: it has all labels of its Service but those that say what it is itself (S-03, S-04)."""
    namespace, name = key_of(service)
    labels = service["metadata"].get("labels") or {}
    return {
        "generateName": f"{name}-",
        "namespace": namespace,
        "labels": {
            **{key: value for key, value in labels.items() if key not in _RESERVED},
            **({HEADLESS: ""} if is_headless(service) else {}),
            SERVICE_NAME: name,
            MANAGED_BY: MANAGER,
        },
        "annotations": None,
        "ownerReferences": [controller_reference(SERVICES, service)],
    }


def stamped(slice_: Object, time: str | None) -> Object:
    """With the time of what led to this write in place of that of the last one."""
    annotations = dict(slice_["metadata"]["annotations"] or {}) | ({TRIGGER_TIME: time} if time else {})
    return {**slice_, "metadata": {**slice_["metadata"], "annotations": annotations}}


class EndpointSlices:
    """Keeps the slices of each Service; those of one that is gone are the garbage collector's."""

    def __init__(self, members: Members, store: SliceStore) -> None:
        self._members, self._store = members, store
        self._times = TriggerTimes()
        self._queue: Queue[Key] = Queue("endpointslice")
        members.subscribe(self._queue.add)
        store.subscribe(MANAGER, self._queue.add)

    async def run(self) -> None:
        """Never returns."""
        await self._members.synced()
        await synced(self._store.mirror)
        await self._queue.run(self._look_at)

    async def _look_at(self, key: Key) -> None:
        service = self._members.services.get(key)
        if service is None or key == API_SERVICE:
            self._times.forget(key)
            return
        pods = self._members.of(service)
        changes = plan(service, pods, self._members.zones, self._store.of(key, MANAGER))
        time = self._times.since(service, pods)
        create, update = ([stamped(each, time) for each in some] for some in (changes.create, changes.update))
        await self._store.carry_out(Changes(create, update, changes.delete))
        self._times.settle(service, pods)
