"""Services with their EndpointSlices, as the informers tell them, and which of them must be planned anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tulle.kube.cache import Change
from tulle.kube.resources import Key
from tulle.model.services import EndpointSlice, Service
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.claims import Claims, claims_of
from tulle.pod_to_service.plan import Frontend, ServicePlan
from tulle.pod_to_service.planner import leads_of, plan_service


class Tracker:
    """Tell it every change, then ask for what is dirty, and plan that.

    Before Services *and* EndpointSlices have synced once, a plan lacks endpoints that exist: the caller
    waits for both (S-14). Plans are not kept here: who applies them knows what the kernel has.
    """

    def __init__(self, here: Location) -> None:
        self._here = here
        self._services: dict[Key, Service] = {}
        self._slices: dict[Key, tuple[EndpointSlice, ...]] = {}
        self._claims = Claims()
        self._dirty: dict[Key, None] = {}

    def service_changed(self, change: Change[Service]) -> None:
        """A callback for the informer of Services."""
        if change.new is None:
            self._services.pop(change.key, None)
        else:
            self._services[change.key] = change.new
        held = claims_of(leads_of(change.new)) if change.new else ()
        self._mark([change.key, *self._claims.put(change.key, held)])

    def slice_changed(self, change: Change[EndpointSlice]) -> None:
        """A callback for the informer of EndpointSlices; a slice may change hands, or stop to be for us."""
        if before := change.old and owner_of(change.old):
            self._put(before, change.key, None)
        if after := change.new and owner_of(change.new):
            self._put(after, change.key, change.new)

    def _put(self, owner: Key, key: Key, new: EndpointSlice | None) -> None:
        others = [s for s in self._slices.get(owner, ()) if s.metadata.name != key[1]]
        if slices := (*others, new) if new else tuple(others):
            self._slices[owner] = slices
        else:
            self._slices.pop(owner, None)
        if owner in self._services:
            self._mark([owner])

    def move(self, here: Location) -> None:
        """The node's name, zone or addresses: with them, any Service may have other endpoints (S-15)."""
        if here != self._here:
            self._here = here
            self._mark(self._services)

    def touch(self, addresses: Iterable[bytes]) -> None:
        """What was planned for these addresses is done otherwise now: their Services are dirty."""
        self._mark(self._claims.at(addresses))

    def reserve(self, frontends: Mapping[Frontend, str]) -> bool:
        """Exactly these are host ports, of whom the texts say, and not for Services; whether one is dirty
        by that.
        """
        keys = self._claims.reserve(frontends)
        self._mark(keys)
        return bool(keys)

    def _mark(self, keys: Iterable[Key]) -> None:
        self._dirty.update(dict.fromkeys(keys))

    def take_dirty(self) -> list[Key]:
        """Those that changed since the last call, the one that waits longest first."""
        dirty, self._dirty = list(self._dirty), {}
        return dirty

    def objects(self, key: Key) -> tuple[Service | None, tuple[EndpointSlice, ...]]:
        """A Service, None if it is gone, and its slices."""
        return self._services.get(key), self._slices.get(key, ())

    def plan(self, key: Key) -> ServicePlan:
        """What the kernel should have for this Service now: nothing, if it is gone."""
        service = self._services.get(key)
        if service is None:
            return ServicePlan()
        plan = plan_service(service, self._slices.get(key, ()), self._here)
        return self._claims.without_foreign(key, plan)


def owner_of(each: EndpointSlice) -> Key | None:
    """The Service that a slice belongs to; None if it is none of ours (S-03, S-04)."""
    labels = each.metadata.labels
    if labels is None or not labels.service_name:
        return None
    if labels.headless is not None or labels.proxy_name is not None:
        return None
    return each.metadata.namespace, labels.service_name
