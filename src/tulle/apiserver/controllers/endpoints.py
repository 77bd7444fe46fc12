"""Endpoints, the older form that EndpointSlices replace: one object for each Service that selects Pods."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from tulle.apiserver.controllers.endpoint_of_pod import (
    API_SERVICE,
    HEADLESS,
    TRIGGER_TIME,
    addresses_of,
    families_of,
    hostname_of,
    is_endpoint,
    is_headless,
    ports_of,
    target_of,
)
from tulle.apiserver.controllers.members import Members, selector_of
from tulle.apiserver.controllers.objects import Object, is_deleting, is_ready, key_of
from tulle.apiserver.controllers.subsets import Offer, subsets, truncated
from tulle.apiserver.controllers.trigger_times import TriggerTimes
from tulle.apiserver.controllers.work import Mirror, delete, synced
from tulle.errors import Forbidden
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.queue import Queue
from tulle.kube.resources import ENDPOINTS, Key

log = logging.getLogger(__name__)

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"


def plan(service: Object, pods: list[Object], found: Object | None, time: str | None) -> Object | None:
    """The Endpoints of ``service`` to write in place of ``found``; None if that is right already.

    They have one family, the Service's first. ``time`` is that of what led to this, if it has one.
    """
    every = subsets(_offers(service, pods))
    wanted = truncated(every)
    is_over = wanted is not every
    metadata = found["metadata"] if found else {}
    annotations = dict(metadata.get("annotations") or {})
    same = (
        found is not None
        and (found.get("subsets") or []) == wanted
        and (metadata.get("labels") or {}) == _labels(service)
        and (annotations.get(OVER_CAPACITY) == "truncated") is is_over
    )
    if same or (found is None and is_deleting(service)):
        return None
    for key, value in ((TRIGGER_TIME, time), (OVER_CAPACITY, "truncated" if is_over else None)):
        annotations.pop(key, None)
        annotations |= {key: value} if value else {}
    namespace, name = key_of(service)
    head = {"apiVersion": "v1", "kind": "Endpoints"}
    own = {"name": name, "namespace": namespace, "labels": _labels(service), "annotations": annotations}
    return {**head, "metadata": {**metadata, **own}, "subsets": wanted}


def is_ours(endpoints: Object) -> bool:
    """Made by this controller, not by somebody for a Service without selector."""
    return bool((endpoints["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER)


def _offers(service: Object, pods: list[Object]) -> Iterator[Offer]:
    """A terminating Pod counts only where Pods that are not ready do: there is no room to say what it is."""
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    family = families_of(service, pods)[0]
    for pod in pods:
        addresses = addresses_of(pod, family)
        if not addresses or not is_endpoint(pod, terminating=publish):
            continue
        optional = {"hostname": hostname_of(pod, service), "nodeName": pod["spec"].get("nodeName")}
        named = {key: value for key, value in optional.items() if value}
        address = {"ip": addresses[0], **named, "targetRef": target_of(pod)}
        without_ports = is_headless(service) and not service["spec"].get("ports")
        for port in [None] if without_ports else ports_of(service, pod):
            yield Offer(address, port, publish or is_ready(pod))


def _labels(service: Object) -> dict[str, str]:
    labels = {k: v for k, v in (service["metadata"].get("labels") or {}).items() if k != HEADLESS}
    return labels | {MANAGED_BY: MANAGER} | ({HEADLESS: ""} if is_headless(service) else {})


class EndpointsObjects:
    """Keeps the Endpoints of each Service, and removes those whose Service is gone: they have no owner."""

    def __init__(self, client: Client, members: Members, endpoints: Mirror) -> None:
        self._client, self._members, self._endpoints = client, members, endpoints
        self._times = TriggerTimes()
        self._queue: Queue[Key] = Queue("endpoints")
        self._written: dict[Key, str] = {}
        self._gone: set[Key] = set()
        members.subscribe(self._queue.add)
        members.services.informer.subscribe(self._service_changed)
        endpoints.informer.subscribe(self._endpoints_changed)

    def _service_changed(self, change: Change[Object]) -> None:
        """Endpoints of any maker go with their Service, but those for a Service yet to come stay."""
        if change.new is None:
            self._gone.add(change.key)
        else:
            self._gone.discard(change.key)

    def _endpoints_changed(self, change: Change[Object]) -> None:
        if change.new is None:
            self._written.pop(change.key, None)
        if change.new is None or self._written.get(change.key) != change.new["metadata"]["resourceVersion"]:
            self._queue.add(change.key)

    async def run(self) -> None:
        """Never returns."""
        await self._members.synced()
        await synced(self._endpoints)
        await self._queue.run(self._look_at)

    async def _look_at(self, key: Key) -> None:
        if key == API_SERVICE:
            return
        service = self._members.services.get(key)
        found = next(iter(self._endpoints.find([key])), None)
        if service is not None and selector_of(service):
            await self._keep(service, found)
            return
        self._times.forget(key)
        # What we made for a Service that selects no Pods any more would be mirrored as if somebody meant it.
        if found is not None and (is_ours(found) or key in self._gone):
            await delete(self._client, ENDPOINTS, key, found["metadata"]["uid"])
            self._endpoints.deleted(found)
        self._gone.discard(key)

    async def _keep(self, service: Object, found: Object | None) -> None:
        namespace, name = key = key_of(service)
        pods = self._members.of(service)
        wanted = plan(service, pods, found, self._times.since(service, pods))
        if wanted is not None:
            try:
                if found is None:
                    written = await self._client.create(ENDPOINTS, wanted, namespace)
                else:
                    written = await self._client.replace(ENDPOINTS, name, wanted, namespace)
            except Forbidden as error:  # the namespace is being terminated, and what is in it goes
                log.debug("no Endpoints are made: %s", error)
                return
            self._endpoints.wrote(written)
            self._written[key] = written["metadata"]["resourceVersion"]
        self._times.settle(service, pods)
