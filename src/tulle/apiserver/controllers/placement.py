"""Which node a Pod may run on: the rules that the scheduler and DaemonSets share. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tulle.apiserver.controllers.objects import Object, is_deleting, requirement_holds

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"


def fits_affinity(pod_spec: Object, node: Object) -> bool:
    """nodeSelector, and the required half of nodeAffinity."""
    labels = node["metadata"].get("labels") or {}
    if not (pod_spec.get("nodeSelector") or {}).items() <= labels.items():
        return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(_term_holds(term, node, labels) for term in required["nodeSelectorTerms"])


def _term_holds(term: Object, node: Object, labels: dict[str, str]) -> bool:
    """All of a term must hold; a term that asks for nothing selects nothing."""
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    names = {"metadata.name": node["metadata"]["name"]}
    return bool(expressions or fields) and (
        all(requirement_holds(each, labels) for each in expressions)
        and all(requirement_holds(each, names) for each in fields)
    )


def untolerated_taint(
    tolerations: list[Object], node: Object, effects: tuple[str, ...] = ("NoSchedule", "NoExecute")
) -> Object | None:
    """The first taint that keeps a Pod away; a cordoned node has one, said or not."""
    taints = list(node.get("spec", {}).get("taints") or [])
    if node.get("spec", {}).get("unschedulable"):
        taints.append({"key": UNSCHEDULABLE, "effect": "NoSchedule"})
    strict = (taint for taint in taints if taint["effect"] in effects)
    return next((t for t in strict if not any(_tolerates(each, t) for each in tolerations)), None)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


HostPort = tuple[str, str, int]
"""(address, protocol, port)"""

_ANY = ("", "0.0.0.0", "::")


def host_ports(pod_spec: Object) -> list[HostPort]:
    """What a Pod takes of its node's ports, sidecars included."""
    sidecars = [each for each in pod_spec.get("initContainers", []) if each.get("restartPolicy") == "Always"]
    return [
        (port.get("hostIP", ""), port.get("protocol", "TCP"), port["hostPort"])
        for container in [*pod_spec["containers"], *sidecars]
        for port in container.get("ports") or []
        if port.get("hostPort")
    ]


def ports_collide(wanted: Iterable[HostPort], taken: Iterable[HostPort]) -> bool:
    """The unspecified address is every address."""
    taken = list(taken)
    return any(
        (protocol, port) == other[1:] and (address == other[0] or address in _ANY or other[0] in _ANY)
        for address, protocol, port in wanted
        for other in taken
    )


def offer(node: Object | None) -> Object | None:
    """What of a node placement depends on: a heartbeat changes nothing for anybody."""
    if node is None:
        return None
    allocatable = node.get("status", {}).get("allocatable")
    labels, leaving = node["metadata"].get("labels"), is_deleting(node)
    return {"spec": node.get("spec"), "labels": labels, "leaving": leaving, "allocatable": allocatable}
