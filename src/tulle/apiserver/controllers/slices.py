"""Endpoints laid out in EndpointSlices, with the least change to those that are there. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tulle.apiserver.controllers.endpoint_of_pod import TRIGGER_TIME
from tulle.apiserver.controllers.objects import Object, key_of

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"

PortKey = tuple[tuple[str, str, int, str], ...]
Group = tuple[str, PortKey]
"""Family and ports: what all endpoints of a slice have in common."""

Placed = tuple[Object | None, list[Object]]
"""A slice that is there, or None for one to make, and the endpoints that are to be in it."""


@dataclass(frozen=True)
class Part:
    """What the slices of one group are to hold. Without endpoints it is one slice, a placeholder."""

    ports: list[Object]
    endpoints: list[Object]


@dataclass(frozen=True)
class Changes:
    """``update`` has whole objects with the version that they replace."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)


def group_of(family: str, ports: Iterable[Object] | None) -> Group:
    """Ports in another order are the same group."""
    keys = (
        (p.get("name", ""), p.get("protocol", "TCP"), p.get("port", 0), p.get("appProtocol", ""))
        for p in ports or ()
    )
    return family, tuple(sorted(keys))


def identity(endpoint: Object) -> tuple[object, ...]:
    """Who an endpoint is, whatever its conditions and its zone, and whichever Pod has the name."""
    target = endpoint.get("targetRef") or {}
    addresses = tuple(sorted(endpoint["addresses"]))
    return addresses, endpoint.get("hostname"), target.get("namespace"), target.get("name")


def arrange(metadata: Object, wanted: Mapping[Group, Part], found: list[Object], limit: int) -> Changes:
    """What turns ``found`` into slices that hold ``wanted``, at most ``limit`` endpoints each.

    ``metadata`` is that of a new slice, its annotations being None if those that a slice has may stay. Slices
    of another owner are taken away, as they are those of an earlier object with the same name.
    """
    owner = metadata["ownerReferences"][0]["uid"]
    mine = sorted((each for each in found if _is_owned(each, owner)), key=key_of)
    by_group: defaultdict[Group, list[Object]] = defaultdict(list)
    for each in mine:
        by_group[group_of(each["addressType"], each.get("ports"))].append(each)
    placed = [(group, place) for group, part in wanted.items() for place in fit(part, by_group[group], limit)]
    used = {there["metadata"]["name"] for _, (there, _) in placed if there is not None}
    spare = [each for each in mine if each["metadata"]["name"] not in used]
    changes = Changes(delete=[each for each in found if not _is_owned(each, owner)])
    for group, (there, endpoints) in placed:
        slice_ = there or _reusable(spare, group[0])
        content = {"ports": wanted[group].ports, "endpoints": endpoints}
        if slice_ is None:
            changes.create.append(_new(metadata, group[0], content))
        elif there is None or _differs(there, metadata, endpoints):
            changes.update.append(_changed(slice_, metadata, content))
    changes.delete.extend(spare)
    return changes


def fit(part: Part, found: list[Object], limit: int) -> list[Placed]:
    """Endpoints stay where they are. New ones go to slices that change anyway, the fullest first; then, if
    they all fit there, to one that would not have changed, as full as possible; then to new slices.
    """
    if not part.endpoints:
        return [(found[0] if found else None, [])]
    left = {identity(each): each for each in part.endpoints}
    changing: list[Placed] = []
    staying: list[Placed] = []
    for each in found:
        old = each.get("endpoints") or []
        kept = [left.pop(key) for key in map(identity, old) if key in left]
        if kept:
            (staying if kept == old else changing).append((each, kept))
    rest = list(left.values())
    for _, kept in sorted(changing, key=lambda place: -len(place[1])):
        room = max(0, limit - len(kept))
        kept += rest[:room]
        del rest[:room]
    new: list[Placed] = []
    while rest:
        roomy = [kept for _, kept in staying if len(kept) + len(rest) <= limit]
        if roomy:
            max(roomy, key=len).extend(rest)
            break
        new.append((None, rest[:limit]))
        del rest[:limit]
    return [*changing, *staying, *new]


def _is_owned(slice_: Object, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in slice_["metadata"].get("ownerReferences") or [])


def _reusable(spare: list[Object], family: str) -> Object | None:
    """Takes a slice that would go otherwise: one write instead of two. Its family can never change."""
    index = next((index for index, each in enumerate(spare) if each["addressType"] == family), None)
    return None if index is None else spare.pop(index)


def _new(metadata: Object, family: str, content: Object) -> Object:
    head = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata}
    return {**head, "addressType": family, **content}


def _differs(there: Object, metadata: Object, endpoints: list[Object]) -> bool:
    found = there["metadata"]
    if (there.get("endpoints") or []) != endpoints or (found.get("labels") or {}) != metadata["labels"]:
        return True
    return metadata["annotations"] is not None and _kept_annotations(found) != metadata["annotations"]


def _changed(there: Object, metadata: Object, content: Object) -> Object:
    found = there["metadata"]
    annotations = _kept_annotations(found) if metadata["annotations"] is None else metadata["annotations"]
    return {
        **there,
        "metadata": {**found, "labels": metadata["labels"], "annotations": annotations},
        **content,
    }


def _kept_annotations(metadata: Object) -> dict[str, str]:
    return {k: v for k, v in (metadata.get("annotations") or {}).items() if k != TRIGGER_TIME}
