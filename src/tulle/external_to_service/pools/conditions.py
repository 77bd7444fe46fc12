"""What the API is told: status of Services and pools, as patches, and whether an Event is due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tulle.external_to_service.pools.judge import Pool
from tulle.external_to_service.pools.outcome import KEPT, Outcome
from tulle.model.balancing import BalancedService, FullCondition, LoadBalancerPool, condition_of

SERVICE_CONDITION = "tulle.dev/AddressAssigned"
POOL_CONDITION = "Ready"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
OURS = "tulle.dev/load-balancer-cleanup"
"""Annotation that says that the finalizer is ours: other implementations have the same one."""
MOST_COUNTED = (1 << 53) - 1
"""Every JSON reader takes numbers up to this for what they are; an IPv6 prefix may have more addresses."""

Patch = dict[str, Any]


class Told(NamedTuple):
    """A status to write, and the Event that goes with it: ``kind`` is Normal or Warning, empty when there is
    nothing new to say.
    """

    patch: Patch | None
    kind: str = ""
    reason: str = ""
    message: str = ""


def service_status(service: BalancedService, outcome: Outcome, now: str) -> Told:
    """A strategic merge patch. ``ingress[].ports`` stays out: all ports are served alike."""
    old = condition_of(service.status.conditions, SERVICE_CONDITION)
    new = _condition(
        SERVICE_CONDITION, bool(outcome.addresses), outcome.reason, outcome.message, old=old, now=now
    )
    ingress = [{"ip": str(address), "ipMode": "VIP"} for address in outcome.addresses]
    there = [
        (point.ip, point.hostname, point.ip_mode or "VIP")
        for point in service.status.load_balancer.ingress or ()
    ]
    same = there == [(each["ip"], "", each["ipMode"]) for each in ingress]
    news = _differs(old, new)
    if same and not news:
        return Told(None)
    status = {"loadBalancer": {"ingress": ingress or None}, "conditions": [new]}
    patch = _guarded(service) | {"status": status}
    well = outcome.complete and outcome.reason != KEPT and not outcome.notes
    kind = "Normal" if well else "Warning"
    message = "; ".join([outcome.message, *outcome.notes])
    return Told(patch, kind if news or outcome.notes else "", outcome.reason, message)


def cleared_status(service: BalancedService, held: frozenset[str]) -> Patch | None:
    """Without what we wrote; an address that somebody else has put there meanwhile stays."""
    points = service.status.load_balancer.ingress or ()
    kept = [_point(each.ip, each.hostname, each.ip_mode) for each in points if each.ip not in held]
    condition = condition_of(service.status.conditions, SERVICE_CONDITION)
    if condition is None and len(kept) == len(points):
        return None
    gone = [{"$patch": "delete", "type": SERVICE_CONDITION}]
    conditions = {"conditions": gone} if condition else {}
    return _guarded(service) | {"status": {"loadBalancer": {"ingress": kept or None}} | conditions}


def with_finalizer(service: BalancedService) -> Patch | None:
    """A merge patch that adds it, and says that it is ours; None where both are there."""
    finalizers, annotations = service.metadata.finalizers or (), service.metadata.annotations or {}
    if FINALIZER in finalizers and OURS in annotations:
        return None
    patch = _guarded(service)
    patch["metadata"] |= {
        "finalizers": list(dict.fromkeys([*finalizers, FINALIZER])),
        "annotations": {OURS: "true"},
    }
    return patch


def without_finalizer(service: BalancedService) -> Patch | None:
    """A merge patch that takes both away; None where it is not ours."""
    if not marked(service):
        return None
    patch = _guarded(service)
    patch["metadata"] |= {
        "finalizers": [each for each in service.metadata.finalizers or () if each != FINALIZER],
        "annotations": {OURS: None},
    }
    return patch


def marked(service: BalancedService) -> bool:
    """Whether a controller of ours has had to do with it, this one or one before it."""
    return OURS in (service.metadata.annotations or {})


def touched(service: BalancedService) -> bool:
    """Whether there is anything of ours on it."""
    return marked(service) or condition_of(service.status.conditions, SERVICE_CONDITION) is not None


def pool_status(obj: LoadBalancerPool, pool: Pool, assigned: Mapping[int, int], now: str) -> Told:
    """``assigned`` by IP version. A merge patch: nothing else writes conditions of pools."""
    old = condition_of(obj.status.conditions, POOL_CONDITION)
    verdict, generation = pool.verdict, obj.metadata.generation
    new = _condition(POOL_CONDITION, verdict.usable, verdict.reason, verdict.message, old=old, now=now)
    new["observedGeneration"] = generation
    news = _differs(old, new)
    counts = {
        f"ipv{version}": {"total": min(pool.size(version), MOST_COUNTED), "assigned": assigned[version]}
        for version in (4, 6)
    }
    there = {
        f"ipv{version}": {"total": each.total, "assigned": each.assigned}
        for version, each in ((4, obj.status.ipv4), (6, obj.status.ipv6))
    }
    known = old is not None and old.observed_generation == generation
    if known and not news and counts == there:
        return Told(None)
    kind = "Warning" if news and not verdict.usable else ""
    return Told({"status": {"conditions": [new], **counts}}, kind, verdict.reason, verdict.message)


def _guarded(service: BalancedService) -> Patch:
    """A patch that is refused when somebody has changed the object meanwhile."""
    return {"metadata": {"resourceVersion": service.metadata.resource_version}}


def _point(ip: str, hostname: str, ip_mode: str | None) -> dict[str, str]:
    found = {"ip": ip, "hostname": hostname, "ipMode": ip_mode or ""}
    return {name: value for name, value in found.items() if value}


def _condition(
    kind: str, holds: bool, reason: str, message: str, *, old: FullCondition | None, now: str
) -> dict[str, Any]:
    status = "True" if holds else "False"
    same = old is not None and old.status == status and old.last_transition_time
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": old.last_transition_time if old is not None and same else now,
    }


def _differs(old: FullCondition | None, new: Mapping[str, Any]) -> bool:
    return old is None or (old.status, old.reason, old.message) != (
        new["status"],
        new["reason"],
        new["message"],
    )
