"""What a Pod's status says of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tulle.verify.manifests import Wanted
from tulle.verify.plan import Place, family_of
from tulle.verify.statements import Family

Pod = dict[str, Any]
HOPELESS = ("ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "RunContainerError")
"""Reasons to wait for which is in vain."""


def is_ready(pod: Pod) -> bool:
    return _condition(pod, "Ready") == "True"


def node_is_ready(node: dict[str, Any]) -> bool:
    return _condition(node, "Ready") == "True"


def _condition(obj: dict[str, Any], kind: str) -> str:
    conditions = obj.get("status", {}).get("conditions") or ()
    return next((c["status"] for c in conditions if c["type"] == kind), "")


def is_running(pod: Pod) -> bool:
    """All containers run and there is an address, so it can take part even if it is not Ready."""
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    running = bool(statuses) and all("running" in (s.get("state") or {}) for s in statuses)
    return running and bool(ips(pod))


def ips(pod: Pod) -> tuple[str, ...]:
    """``status.podIPs``, the primary first (N-07)."""
    status = pod.get("status", {})
    listed = [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")]
    return tuple(listed or filter(None, [status.get("podIP")]))


def problem(pod: Pod | None) -> str:
    """Why it is not Ready, in the words of its status; empty if it is."""
    if pod is None:
        return "it was never created"
    if is_ready(pod):
        return ""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        for state in ("waiting", "terminated"):
            detail = (status.get("state") or {}).get(state)
            if detail:
                return _words(f"container {status['name']}", detail)
    if is_running(pod):
        return "its containers run, but a readiness probe fails: the kubelet does not reach the Pod"
    conditions = [c for c in pod.get("status", {}).get("conditions") or () if c["status"] != "True"]
    words = next((_words(c["type"], c) for c in conditions if c.get("message")), "")
    return words or _words(f"phase {pod.get('status', {}).get('phase', 'unknown')}", pod.get("status", {}))


def _words(what: str, detail: dict[str, Any]) -> str:
    parts = [what, detail.get("reason"), detail.get("message")]
    return ": ".join(str(part) for part in parts if part)


def is_settled(pod: Pod | None) -> bool:
    """Ready, or in a state from which it will not become Ready."""
    if pod is None:
        return False
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    reasons = [((s.get("state") or {}).get("waiting") or {}).get("reason") for s in statuses]
    failed = pod.get("status", {}).get("phase") == "Failed"
    return is_ready(pod) or failed or any(reason in HOPELESS for reason in reasons)


def place(want: Wanted, pod: Pod) -> Place:
    """A Pod that runs."""
    return Place(
        want.pod,
        want.node,
        want.role,
        want.port,
        ips(pod),
        want.containers,
        host_network=want.host_network,
        packets=want.packets,
    )


def claimed_addresses(pods: Iterable[Pod]) -> Counter[str]:
    """How many Pods have each address; those that are over, and those on the host network, have none."""
    claims: Counter[str] = Counter()
    for pod in pods:
        over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if not over and not pod["spec"].get("hostNetwork"):
            claims.update(ips(pod))
    return claims


def node_addresses(node: dict[str, Any]) -> frozenset[str]:
    """The IPs among ``status.addresses``."""
    addresses = node.get("status", {}).get("addresses") or ()
    return frozenset(a["address"] for a in addresses if a["type"] in ("InternalIP", "ExternalIP"))


def primary_addresses(node: dict[str, Any]) -> dict[Family, str]:
    """The first InternalIP of each family."""
    found: dict[Family, str] = {}
    for each in node.get("status", {}).get("addresses") or ():
        if each["type"] == "InternalIP":
            found.setdefault(family_of(each["address"]), each["address"])
    return found
