"""Parts of objects with rules of their own: scale, binding, eviction, and service accounts' tokens."""

from __future__ import annotations

from typing import Any

import msgspec

from tulle.apiserver import patch, selectors, status
from tulle.apiserver.kinds import Kind, Object
from tulle.apiserver.store import Record
from tulle.apiserver.times import stamp
from tulle.apiserver.writing import Options, Outcome, Writer


def scale_of(kind: Kind, record: Record) -> Record:
    """An object's autoscaling/v1 Scale."""
    obj, paths = record.obj, kind.scale_paths
    meta = {key: obj["metadata"][key] for key in ("name", "namespace", "uid", "creationTimestamp")}
    replicas = _find(obj, paths["statusReplicasPath"]) or 0
    selector = _find(obj, paths.get("labelSelectorPath", "")) or selectors.text(obj["spec"].get("selector"))
    scale = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta | {"resourceVersion": str(record.version)},
        "spec": {"replicas": _find(obj, paths["specReplicasPath"]) or 0},
        "status": {"replicas": replicas} | ({"selector": selector} if selector else {}),
    }
    return Record(record.version, scale, msgspec.json.encode(scale))


def rescale(
    writer: Writer, kind: Kind, namespace: str, name: str, wanted: Object, options: Options
) -> Record:
    """Sets the replicas that a Scale asks for; returns the new Scale."""
    replicas = _find(wanted, ".spec.replicas") or 0
    if not isinstance(replicas, int) or replicas < 0:
        cause = status.bad_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise status.invalid(kind, name, [cause])
    obj = writer.existing(kind, namespace, name).copy()
    *parents, last = kind.scale_paths["specReplicasPath"].strip(".").split(".")
    place = obj
    for step in parents:
        place = place.setdefault(step, {})
    place[last] = replicas
    meta = wanted.get("metadata") or {}
    obj["metadata"]["resourceVersion"] = meta.get("resourceVersion", "")
    return scale_of(kind, writer.update(kind, namespace, name, obj, options).record)


def repatch(
    writer: Writer, kind: Kind, namespace: str, name: str, how: str, body: Any, options: Options
) -> Record:
    """Patches an object's Scale."""
    current = scale_of(kind, writer.existing(kind, namespace, name)).obj
    return rescale(writer, kind, namespace, name, patch.apply_patch(how, current, body, "Scale"), options)


def _find(obj: Any, path: str) -> Any:
    for step in filter(None, path.split(".")):
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj if path else None


def bind(writer: Writer, kind: Kind, namespace: str, name: str, binding: Object, options: Options) -> Outcome:
    """Gives a Pod its node, once."""
    obj = writer.existing(kind, namespace, name).copy()
    node = _find(binding, ".target.name")
    if not isinstance(node, str) or not node:
        raise status.invalid(kind, name, [status.required("target.name")])
    if assigned := obj["spec"].get("nodeName"):
        why = f'pod {name} is already assigned to node "{assigned}"'
        raise status.conflict(kind, f"{name}", why)
    if "deletionTimestamp" in obj["metadata"]:
        raise status.conflict(kind, name, f"pod {name} is being deleted, cannot be assigned to a host")
    obj["spec"]["nodeName"] = node
    annotations = (binding.get("metadata") or {}).get("annotations") or {}
    if annotations:
        obj["metadata"]["annotations"] = obj["metadata"].get("annotations", {}) | annotations
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp()}
    others = [c for c in obj["status"].get("conditions", []) if c["type"] != "PodScheduled"]
    obj["status"]["conditions"] = [*others, scheduled]
    return writer.store(kind, obj, options)


def evict(
    writer: Writer, kind: Kind, namespace: str, name: str, eviction: Object, options: Options
) -> Outcome:
    """Deletes a Pod as its eviction's deleteOptions say; there are no disruption budgets to ask."""
    return writer.delete(kind, namespace, name, eviction.get("deleteOptions") or {}, options)
