"""Merging that knows which of Kubernetes' lists are maps by a key, which are sets, and which are atomic.

The keys are the ``x-kubernetes-patch-merge-key`` and ``x-kubernetes-list-map-keys`` of the Kubernetes API
types that are served. Directives are those of strategic merge patch: ``$patch``, ``$retainKeys``,
``$setElementOrder/<list>`` and ``$deleteFromPrimitiveList/<list>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tulle.errors import ApiError

ListKeys = Mapping[str, tuple[str, ...]]
"""Field name of a list -> the keys by which its elements are told apart.

``()`` is a set of plain values. A list whose field is not in the map is atomic: it is replaced.
"""

_SET: tuple[str, ...] = ()

_LIST_KEYS: ListKeys = {
    "finalizers": _SET,
    "ownerReferences": ("uid",),
    "conditions": ("type",),
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "schedulingGates": ("name",),
    "resourceClaims": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "podIPs": ("ip",),
    "hostIPs": ("ip",),
}

_OF_KIND: Mapping[str, ListKeys] = {
    "Node": {"podCIDRs": _SET, "addresses": ("type",)},
    "Service": {"ports": ("port", "protocol")},
    "ServiceAccount": {"secrets": ("name",)},
}

_ATOMIC_IN_KIND: Mapping[str, frozenset[str]] = {
    "EndpointSlice": frozenset({"ports", "conditions"}),
    "ServiceAccount": frozenset({"imagePullSecrets"}),
}

_BUILT_IN_GROUPS = frozenset(
    {
        "",
        "apps",
        "apiextensions.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "networking.k8s.io",
        "rbac.authorization.k8s.io",
    }
)


def is_built_in(obj: dict[str, Any]) -> bool:
    """Whether ``obj`` is of a group of Kubernetes' own, so that the meaning of its lists is known."""
    group, slash, _ = obj.get("apiVersion", "").partition("/")
    return (group if slash else "") in _BUILT_IN_GROUPS


def list_keys(obj: dict[str, Any], kind: str) -> ListKeys:
    """What the lists of ``kind`` mean; of a custom resource nothing is known, its lists are atomic."""
    if not is_built_in(obj):
        return {}
    atomic = _ATOMIC_IN_KIND.get(kind, frozenset())
    keys = {**_LIST_KEYS, **_OF_KIND.get(kind, {})}
    return {field: key for field, key in keys.items() if field not in atomic}


def apply(current: Any, applied: Any, keys: ListKeys, field: str = "") -> Any:
    """Server-side apply as far as a merge goes: what ``applied`` does not mention stays as it is."""
    if isinstance(applied, dict):
        merged = dict(current) if isinstance(current, dict) else {}
        for name, value in applied.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = apply(merged.get(name), value, keys, name)
        return merged
    if not isinstance(applied, list) or not isinstance(current, list) or field not in keys:
        return applied
    if keys[field] == _SET:
        return current + [value for value in applied if value not in current]
    result = list(current)
    for element in applied:
        at = _find(result, element, keys[field], field)
        if at is None:
            result.append(element)
        else:
            result[at] = apply(result[at], element, keys)
    return result


def merge(current: Any, patch: dict[str, Any], keys: ListKeys) -> dict[str, Any]:
    """Strategic merge of one object; ``current`` that is not an object counts as an empty one."""
    directive = patch.pop("$patch", "merge")
    if directive not in ("merge", "replace", "delete"):
        raise _bad_patch(f"$patch must be merge, replace or delete, not {directive!r}")
    merged = dict(current) if isinstance(current, dict) and directive == "merge" else {}
    if directive == "delete":
        return merged
    _retain_keys(merged, patch)
    order = _take_prefixed(patch, "$setElementOrder/")
    for name, values in _take_prefixed(patch, "$deleteFromPrimitiveList/").items():
        merged[name] = [value for value in merged.get(name, []) if value not in values]
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = merge(merged.get(name), value, keys)
        elif isinstance(value, list) and name in keys:
            merged[name] = _merge_list(merged.get(name), value, keys, name)
        else:
            merged[name] = value
    for name, wanted in order.items():
        if name in keys and isinstance(merged.get(name), list):
            before = current.get(name) if isinstance(current, dict) else None
            merged[name] = _reorder(merged[name], wanted, before or [], keys[name])
    return merged


def _retain_keys(merged: dict[str, Any], patch: dict[str, Any]) -> None:
    retained = patch.pop("$retainKeys", None)
    if retained is None:
        return
    if not isinstance(retained, list) or not {key for key in patch if key[:1] != "$"} <= set(retained):
        raise _bad_patch("$retainKeys must list every key that the patch sets beside it")
    for name in merged.keys() - set(retained):
        del merged[name]


def _take_prefixed(patch: dict[str, Any], prefix: str) -> dict[str, list[Any]]:
    """Removes the directives that begin with ``prefix``; gives their lists by the field they are for."""
    taken = {name[len(prefix) :]: patch.pop(name) for name in list(patch) if name.startswith(prefix)}
    for name, values in taken.items():
        if not isinstance(values, list):
            raise _bad_patch(f"{prefix}{name} must be a list")
    return taken


def _merge_list(current: Any, patch: list[Any], keys: ListKeys, field: str) -> list[Any]:
    result = list(current) if isinstance(current, list) else []
    if keys[field] == _SET:
        return result + [value for value in patch if value not in result]
    if {"$patch": "replace"} in patch:
        # Whole and unmerged: a node's two InternalIPs have the same merge key.
        return [merge(None, element, keys) for element in patch if element != {"$patch": "replace"}]
    for element in patch:
        at = _find(result, element, keys[field], field)
        if element.get("$patch") == "delete":
            result = [other for other in result if not _matches(other, element, keys[field])]
        elif at is None:
            result.append(merge(None, element, keys))
        else:
            result[at] = merge(result[at], element, keys)
    return result


def _find(elements: list[Any], wanted: Any, keys: tuple[str, ...], field: str) -> int | None:
    if not isinstance(wanted, dict) or keys[0] not in wanted:
        raise ApiError(422, "Invalid", f"an element of {field} in the patch has no {keys[0]}, its merge key")
    return next((at for at, other in enumerate(elements) if _matches(other, wanted, keys)), None)


def _matches(element: Any, wanted: dict[str, Any], keys: tuple[str, ...]) -> bool:
    """The first key decides; a further one, such as a port's protocol, only where ``wanted`` names it."""
    return isinstance(element, dict) and all(
        element.get(key) == wanted.get(key) for key in keys if key == keys[0] or key in wanted
    )


def _reorder(elements: list[Any], wanted: list[Any], before: list[Any], keys: tuple[str, ...]) -> list[Any]:
    """Elements that ``wanted`` names in its order, among them the others where they were ``before``."""

    def position(element: Any, samples: list[Any]) -> int:
        same = (_matches(element, sample, keys) if keys else element == sample for sample in samples)
        return next((at for at, found in enumerate(same) if found), -1)

    named = [element for element in elements if position(element, wanted) >= 0]
    others = [element for element in elements if position(element, wanted) < 0]
    result = []
    for element in sorted(named, key=lambda element: position(element, wanted)):
        while others and 0 <= position(others[0], before) < position(element, before):
            result.append(others.pop(0))
        result.append(element)
    return result + others


def _bad_patch(message: str) -> ApiError:
    return ApiError(400, "BadRequest", f"the strategic merge patch cannot be read: {message}")
