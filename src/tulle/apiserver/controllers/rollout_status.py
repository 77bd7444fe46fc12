"""A Deployment's status and conditions, as they follow from its ReplicaSets'. Pure."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from tulle.apiserver.controllers.objects import Object, condition, stamp
from tulle.apiserver.controllers.rollout import bounds, is_complete, size_of, split

ROLLING, ROLLED, OVERDUE = "ReplicaSetUpdated", "NewReplicaSetAvailable", "ProgressDeadlineExceeded"
"""Reasons of the condition Progressing, by which ``kubectl rollout status`` goes."""


def status(deployment: Object, replicasets: list[Object], now: datetime) -> Object:
    """The whole status; times of conditions that still say the same stay."""
    new, old = split(deployment, replicasets)
    every = [rs.get("status", {}) for rs in replicasets]
    available = sum(each.get("availableReplicas", 0) for each in every)
    counts = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": sum(each.get("replicas", 0) for each in every),
        "updatedReplicas": (new or {}).get("status", {}).get("replicas", 0),
        "readyReplicas": sum(each.get("readyReplicas", 0) for each in every),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(map(size_of, replicasets)) - available),
    }
    before = deployment.get("status", {})
    moved = any(
        counts[name] != before.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")
    )
    progress = _progress(
        deployment, new, old, counts, not moved and seconds_to_deadline(deployment, now) <= 0
    )
    conditions = [
        _dated(deployment, _availability(deployment, available), now, renew=False),
        _dated(deployment, progress, now, renew=moved and progress["reason"] == ROLLING),
    ]
    return {**counts, "conditions": conditions}


def seconds_to_deadline(deployment: Object, now: datetime) -> float:
    """Until the rollout must have moved on; infinity while nothing is being rolled out."""
    before = condition(deployment, "Progressing")
    if before is None or before["reason"] not in (ROLLING, OVERDUE):
        return math.inf
    waited = (now - datetime.fromisoformat(before["lastUpdateTime"])) / timedelta(seconds=1)
    return float(deployment["spec"].get("progressDeadlineSeconds", 600)) - waited


def _availability(deployment: Object, available: int) -> Object:
    if available >= bounds(deployment)[0]:
        reason, message = "MinimumReplicasAvailable", "Deployment has minimum availability."
        return {"type": "Available", "status": "True", "reason": reason, "message": message}
    reason, message = "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    return {"type": "Available", "status": "False", "reason": reason, "message": message}


def _progress(
    deployment: Object, new: Object | None, old: list[Object], counts: Object, overdue: bool
) -> Object:
    before = condition(deployment, "Progressing") or {}
    if deployment["spec"].get("paused"):
        return _progressing("Unknown", "DeploymentPaused", "Deployment is paused")
    shown = (
        f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{deployment["metadata"]["name"]}"'
    )
    # A rollout that has been completed stays so when Pods fail later.
    settled = before.get("reason") == ROLLED and new and counts["replicas"] == counts["updatedReplicas"]
    if settled or is_complete(deployment, new, old):
        return _progressing("True", ROLLED, f"{shown} has successfully progressed.")
    if overdue:
        return _progressing("False", OVERDUE, f"{shown} has timed out progressing.")
    return _progressing("True", ROLLING, f"{shown} is progressing.")


def _progressing(status: str, reason: str, message: str) -> Object:
    return {"type": "Progressing", "status": status, "reason": reason, "message": message}


def _dated(deployment: Object, found: Object, now: datetime, *, renew: bool) -> Object:
    """``found`` with the times of the condition that it follows, as far as it says the same."""
    before = condition(deployment, found["type"]) or {}
    same = not renew and all(before.get(key) == value for key, value in found.items())
    updated = before.get("lastUpdateTime") if same else None
    since = before.get("lastTransitionTime") if before.get("status") == found["status"] else None
    return {**found, "lastUpdateTime": updated or stamp(now), "lastTransitionTime": since or stamp(now)}
