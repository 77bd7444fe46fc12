"""Of each endpoint of a port: whether it is used from this node, and why not. Pure.

The plan says who is used; here the same rules (``categorize``) are told in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tulle.model.services import EndpointSlice
from tulle.pod_to_service.categorize import Location, Standing, Topology, topology_mode
from tulle.pod_to_service.endpoints import PortKey, find_endpoints
from tulle.pod_to_service.plan import Backend, PortPlan, Traffic


class Judged(NamedTuple):
    """``used``: by connections of which traffic policies. ``why``: for an endpoint that is not used, what
    keeps it out; for another, what is unusual about it.
    """

    backend: Backend
    standing: Standing
    used: tuple[Traffic, ...]
    why: str


def judge(slices: Iterable[EndpointSlice], plans: Sequence[PortPlan], here: Location) -> list[list[Judged]]:
    """For each plan of one Service, whose ``slices`` these are, its endpoints, sorted."""
    keys = [PortKey(plan.family, plan.port, plan.protocol) for plan in plans]
    found, _ = find_endpoints(slices, keys, here)
    judged = []
    for plan, key in zip(plans, keys, strict=True):
        local = plan.cluster is None
        mode = Topology.ANY if local else topology_mode(found[key], here)
        used = {traffic: frozenset(choice.backends) for traffic, choice in plan.choices.items()}
        each = []
        for backend, standing in sorted(found[key].items(), key=lambda item: item[0]):
            by = tuple(traffic for traffic, backends in used.items() if backend in backends)
            each.append(Judged(backend, standing, by, _why(standing, bool(by), local, mode)))
        judged.append(each)
    return judged


def _why(standing: Standing, used: bool, local: bool, mode: Topology) -> str:
    if used:
        return "" if standing.ready else "terminating, but it serves, and none is ready"
    if local and not standing.local:
        return "on another node, and the traffic policy is Local"
    if standing.leaving and not standing.ready:
        return "terminating, and others are ready"
    if not standing.ready:
        return "terminating, and does not serve" if standing.terminating else "not ready"
    if mode is Topology.SAME_NODE:
        return f"meant for node {', '.join(sorted(standing.nodes))}"
    if mode is Topology.SAME_ZONE:
        return f"meant for zone {', '.join(sorted(standing.zones))}"
    return ""
