"""Pure helpers on objects as they come from the API, shared by the controllers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tulle.kube.resources import Key, Resource

Object = dict[str, Any]

_HASH_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' alphabet for generated names: no vowels, so that no words come out."""


def key_of(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def is_deleting(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def controller_of(obj: Object) -> Object | None:
    """The owner reference that says who manages ``obj``."""
    owners = obj["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def is_controlled_by(obj: Object, owner: Object) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference["uid"] == owner["metadata"]["uid"]


def controller_reference(resource: Resource[Any], owner: Object) -> Object:
    """What makes ``owner``, an object of ``resource``, the controller of what carries it."""
    return {
        "apiVersion": "/".join(filter(None, (resource.group, resource.version))),
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def selects(selector: Object, labels: Mapping[str, str] | None) -> bool:
    """Whether a LabelSelector matches; an empty one, which a workload may not have, matches nothing."""
    labels = labels or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        return False
    return (selector.get("matchLabels") or {}).items() <= labels.items() and all(
        requirement_holds(each, labels) for each in selector.get("matchExpressions") or []
    )


def requirement_holds(requirement: Object, values: Mapping[str, str]) -> bool:
    """One element of matchExpressions, of a label selector or of a node selector term."""
    value = values.get(requirement["key"])
    wanted = requirement.get("values") or []
    match requirement["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator if value is not None:
            try:
                return int(value) > int(wanted[0]) if operator == "Gt" else int(value) < int(wanted[0])
            except (ValueError, IndexError):
                return False
    return False


def condition(obj: Object, kind: str) -> Object | None:
    found = obj.get("status", {}).get("conditions") or []
    return next((each for each in found if each["type"] == kind), None)


def is_ready(obj: Object) -> bool:
    """Of a Pod or a Node."""
    return (condition(obj, "Ready") or {}).get("status") == "True"


def is_finished(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    return not is_finished(pod) and not is_deleting(pod)


def seconds_to_available(pod: Object, min_ready_seconds: int, now: datetime) -> float:
    """0 for an available Pod, infinity for one that is not ready."""
    if not is_ready(pod) or is_deleting(pod):
        return math.inf
    since = (condition(pod, "Ready") or {}).get("lastTransitionTime")
    if not min_ready_seconds or not since:
        return 0.0
    return max(0.0, min_ready_seconds - (now - datetime.fromisoformat(since)) / timedelta(seconds=1))


def stamp(now: datetime) -> str:
    """RFC 3339 to the second, as in every timestamp of the API."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def template_hash(template: Object) -> str:
    """Ten characters that stand for a Pod template in names and labels."""
    number = int.from_bytes(hashlib.sha256(msgspec.json.encode(template, order="deterministic")).digest())
    digits = []
    for _ in range(10):
        number, digit = divmod(number, len(_HASH_ALPHABET))
        digits.append(_HASH_ALPHABET[digit])
    return "".join(digits)


def share_of(value: int | str, total: int, *, round_up: bool) -> int:
    """An IntOrString such as ``1`` or ``"25%"`` of ``total``."""
    if isinstance(value, int):
        return value
    exact = int(value.rstrip("%")) * total / 100
    return math.ceil(exact) if round_up else math.floor(exact)


def pod_from(template: Object, owner: Object, reference: Object) -> Object:
    """A Pod of ``owner`` to create; the API gives it its name."""
    metadata = template.get("metadata", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": owner["metadata"]["name"] + "-",
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(metadata.get("labels") or {}),
            "annotations": dict(metadata.get("annotations") or {}),
            "finalizers": list(metadata.get("finalizers") or []),
            "ownerReferences": [reference],
        },
        "spec": template["spec"],
    }
