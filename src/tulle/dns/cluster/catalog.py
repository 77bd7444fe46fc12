"""The objects behind the zone. An object's change touches the names of one Service."""

from __future__ import annotations

from collections.abc import Iterator

from tulle.dns.cluster.objects import Service
from tulle.dns.cluster.service_records import RecordSet, of_service
from tulle.dns.cluster.zone import Zone
from tulle.kube.resources import Key
from tulle.model.objects import Namespace
from tulle.model.services import EndpointSlice

Objects = Service | EndpointSlice | Namespace
SliceKey = tuple[bool, str, str]
"""Whether it is labelled as headless, namespace, name: both kinds are listed for themselves, so a slice
that changes its kind is added as one and deleted as the other, in any order."""


class Catalog:
    """Keeps ``zone`` in step with the objects that it is told of. One thread, no I/O."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self._services: dict[Key, Service] = {}
        self._slices: dict[SliceKey, EndpointSlice] = {}
        self._by_service: dict[Key, dict[SliceKey, EndpointSlice]] = {}
        self._namespaces: dict[Key, Namespace] = {}

    @property
    def size(self) -> tuple[int, int, int]:
        """How many Services, EndpointSlices and Namespaces there are."""
        return len(self._services), len(self._slices), len(self._namespaces)

    def objects(self) -> Iterator[Objects]:
        """All of them as they are now, for the snapshot; changes meanwhile do no harm."""
        yield from list(self._namespaces.values())
        yield from list(self._slices.values())
        yield from list(self._services.values())

    def set_namespace(self, key: Key, new: Namespace | None) -> None:
        """``None``: it is gone."""
        name = key[1]
        known = key in self._namespaces
        if new is not None:
            self._namespaces[key] = new
            if not known:
                self.zone.add_namespace(name)
        elif known:
            del self._namespaces[key]
            self.zone.remove_namespace(name)

    def set_service(self, key: Key, new: Service | None) -> None:
        """``None``: it is gone."""
        before = self._records(key)
        if new is None:
            self._services.pop(key, None)
        else:
            self._services[key] = new
        self.zone.replace(before, self._records(key))

    def set_slice(self, key: SliceKey, new: EndpointSlice | None) -> None:
        """``None``: it is gone. A slice may also change whose it is (S-04)."""
        old = self._slices.get(key)
        owners = {owner for each in (old, new) if each and (owner := _owner(each))}
        touched = [owner for owner in owners if _is_headless(self._services.get(owner))]
        before = {owner: self._records(owner) for owner in touched}
        self._put_slice(key, old, new)
        for owner in touched:
            self.zone.replace(before[owner], self._records(owner))

    def _put_slice(self, key: SliceKey, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        owner = _owner(old) if old else None
        if owner:
            own = self._by_service[owner]
            del own[key]
            if not own:
                del self._by_service[owner]
        self._slices.pop(key, None)
        if new is not None:
            self._slices[key] = new
            owner = _owner(new)
            if owner:
                self._by_service.setdefault(owner, {})[key] = new

    def _records(self, key: Key) -> RecordSet:
        service = self._services.get(key)
        if service is None:
            return {}
        own = self._by_service.get(key, {})
        slices = [own[name] for name in sorted(own)]
        return of_service(service, slices, self.zone.options)

    def is_headless(self, part: EndpointSlice) -> bool:
        """Whether DNS answers with this slice's endpoints."""
        owner = _owner(part)
        return owner is not None and _is_headless(self._services.get(owner))

    def rebuild(self, zone: Zone) -> None:
        """Fills another, empty zone, whose options differ, with the same objects."""
        self.zone = zone
        for _, name in self._namespaces:
            zone.add_namespace(name)
        for key in self._services:
            zone.replace({}, self._records(key))


def _owner(part: EndpointSlice) -> Key | None:
    labels = part.metadata.labels
    name = labels.service_name if labels else None
    return (part.metadata.namespace, name) if name else None


def _is_headless(service: Service | None) -> bool:
    return service is not None and service.spec.cluster_ip == "None" and service.spec.type != "ExternalName"
