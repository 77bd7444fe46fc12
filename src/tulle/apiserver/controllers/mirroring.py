"""EndpointSlices that mirror Endpoints which somebody made for a Service without selector (KEP-752)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from tulle.apiserver.controllers.endpoint_of_pod import API_SERVICE, TRIGGER_TIME
from tulle.apiserver.controllers.endpoints import is_ours
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
from tulle.apiserver.controllers.subsets import offers, subsets
from tulle.apiserver.controllers.words import Recorder
from tulle.apiserver.controllers.work import Mirror, synced
from tulle.kube.cache import Change
from tulle.kube.queue import Queue
from tulle.kube.resources import ENDPOINTS, Key

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

LIMIT = 1000
"""Addresses of one subset that are mirrored, ready ones first; a subset makes one slice for each family."""


@dataclass(frozen=True)
class Mirrored:
    """``warnings`` are (reason, message), about what is left out."""

    changes: Changes
    warnings: list[tuple[str, str]] = field(default_factory=list)


def plan(
    endpoints: Object | None, service: Object | None, found: list[Object], limit: int = LIMIT
) -> Mirrored:
    """``found`` are the slices that mirror ``endpoints`` so far; they go when there is nothing to mirror."""
    if endpoints is None or service is None or not _is_mirrored(endpoints, service):
        return Mirrored(Changes(delete=found))
    wanted: dict[Group, Part] = {}
    invalid = skipped = 0
    for subset in subsets(offers(endpoints.get("subsets"))):
        valid = [(family, each) for family, each in _endpoints(subset) if family]
        invalid += len(subset.get("addresses", ())) + len(subset.get("notReadyAddresses", ())) - len(valid)
        skipped += max(0, len(valid) - limit)
        ports = [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports", ())]
        for family, each in valid[:limit]:
            wanted.setdefault(group_of(family, ports), Part(ports, [])).endpoints.append(each)
    changes = arrange(_metadata(endpoints), wanted, found, limit)
    if is_deleting(endpoints):
        changes = Changes([], changes.update, changes.delete)
    return Mirrored(changes, list(_warnings(invalid, skipped, limit)))


def _is_mirrored(endpoints: Object, service: Object) -> bool:
    """Not what a controller made out of Pods, nor what says that it is something else than endpoints."""
    metadata = endpoints["metadata"]
    return not (
        service["spec"].get("selector")
        or is_ours(endpoints)
        or (metadata.get("labels") or {}).get(SKIP_MIRROR) == "true"
        or LEADER in (metadata.get("annotations") or {})
    )


def _endpoints(subset: Object) -> Iterator[tuple[str, Object]]:
    """Each address with its family, which is empty for what is no address; ready ones come first."""
    for key, ready in (("addresses", True), ("notReadyAddresses", False)):
        for given in subset.get(key, ()):
            try:
                address = ip_address(given["ip"])
            except ValueError:
                yield "", {}
                continue
            optional = {
                each: given[each] for each in ("hostname", "nodeName", "targetRef") if given.get(each)
            }
            endpoint = {"addresses": [str(address)], "conditions": {"ready": ready}, **optional}
            yield f"IPv{address.version}", endpoint


def _metadata(endpoints: Object) -> Object:
    namespace, name = key_of(endpoints)
    annotations = endpoints["metadata"].get("annotations") or {}
    return {
        "generateName": f"{name}-",
        "namespace": namespace,
        "labels": {**(endpoints["metadata"].get("labels") or {}), SERVICE_NAME: name, MANAGED_BY: MANAGER},
        "annotations": {k: v for k, v in annotations.items() if k not in (TRIGGER_TIME, LAST_APPLIED)},
        "ownerReferences": [controller_reference(ENDPOINTS, endpoints)],
    }


def _warnings(invalid: int, skipped: int, limit: int) -> Iterator[tuple[str, str]]:
    if invalid:
        yield "InvalidIPAddress", f"Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices"
    if skipped:
        most = f"A max of {limit} addresses can be mirrored to EndpointSlices per Endpoints subset."
        yield "TooManyAddressesToMirror", f"{most} {skipped} addresses were skipped"


class Mirroring:
    """Looks at Endpoints when they, their Service, or the slices that mirror them change."""

    def __init__(self, services: Mirror, endpoints: Mirror, store: SliceStore, recorder: Recorder) -> None:
        self._services, self._endpoints, self._store, self._recorder = services, endpoints, store, recorder
        self._queue: Queue[Key] = Queue("endpointslice-mirroring")
        services.informer.subscribe(self._service_changed)
        endpoints.informer.subscribe(lambda change: self._queue.add(change.key))
        store.subscribe(MANAGER, self._queue.add)

    def _service_changed(self, change: Change[Object]) -> None:
        before, after = (obj and bool(obj["spec"].get("selector")) for obj in (change.old, change.new))
        if before is not after:
            self._queue.add(change.key)

    async def run(self) -> None:
        """Never returns."""
        await synced(self._services, self._endpoints, self._store.mirror)
        await self._queue.run(self._look_at)

    async def _look_at(self, key: Key) -> None:
        if key == API_SERVICE:
            return
        endpoints = self._endpoints.get(key)
        wanted = plan(endpoints, self._services.get(key), self._store.of(key, MANAGER))
        if endpoints is not None and wanted.changes:
            for reason, message in wanted.warnings:
                self._recorder.record(
                    "endpoint-slice-mirroring-controller", endpoints, "Warning", reason, message
                )
        await self._store.carry_out(wanted.changes)
