"""Plans of Services, as short as they can be said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tulle.model.address import Network, is_ipv4
from tulle.pod_to_service.entries import LeadsTo
from tulle.pod_to_service.observed import KernelPort, KernelTable
from tulle.pod_to_service.plan import (
    Backend,
    Choice,
    Frontend,
    Kind,
    Lead,
    OnEmpty,
    PortPlan,
    Traffic,
)


def cluster_ip(frontend: Frontend) -> Lead:
    return Lead(frontend, Kind.CLUSTER_IP, Traffic.CLUSTER, Traffic.CLUSTER)


def plan_at(
    *frontends: Frontend,
    service: tuple[str, str] = ("default", "web"),
    port: str = "http",
    backends: Sequence[Backend] = (),
    serving: Sequence[Backend] = (),
    affinity: int = 0,
    on_empty: OnEmpty = OnEmpty.REJECT,
) -> PortPlan:
    """A port at addresses inside the cluster."""
    return PortPlan(
        service=service,
        port=port,
        protocol=frontends[0].protocol,
        family=4 if is_ipv4(frontends[0].address) else 6,
        affinity=affinity,
        leads=tuple(map(cluster_ip, frontends)),
        cluster=Choice(tuple(backends), tuple(serving), on_empty),
    )


def led_by(plan: PortPlan, *frontends: Frontend) -> PortPlan:
    """The same at other addresses inside the cluster."""
    return replace(plan, leads=tuple(map(cluster_ip, frontends)))


def choosing(plan: PortPlan, **fields: Any) -> PortPlan:
    """The same with other endpoints."""
    assert plan.cluster
    return replace(plan, cluster=replace(plan.cluster, **fields))


def as_written(*plans: PortPlan) -> KernelTable:
    """What ``Table`` makes of these plans, on a node that has none of their addresses itself."""
    leads: dict[Frontend, LeadsTo] = {}
    by_index: dict[int, tuple[PortPlan, Traffic]] = {}
    guards: dict[int, frozenset[Network]] = {}
    others: dict[Kind, set[bytes]] = {Kind.CLUSTER_IP: set(), Kind.LOAD_BALANCER: set()}
    for plan in plans:
        indices = {traffic: len(by_index) + 2 + n for n, traffic in enumerate(plan.choices)}
        by_index |= {index: (plan, traffic) for traffic, index in indices.items()}
        for lead in plan.leads:
            guard = 0 if lead.sources is None else len(guards) + 1
            if lead.sources is not None:
                guards[guard] = frozenset(lead.sources)
            leads[lead.frontend] = LeadsTo(indices[lead.inside], indices[lead.outside], guard)
            others.setdefault(lead.kind, set()).add(lead.frontend.address)
    ports = {
        index: KernelPort(
            index,
            tuple(f for f, lead in leads.items() if index in (lead.inside, lead.outside)),
            plan.choices[traffic],
            plan.affinity,
        )
        for index, (plan, traffic) in by_index.items()
    }
    refusing, outside = others[Kind.CLUSTER_IP], others[Kind.LOAD_BALANCER]
    return KernelTable(ports, leads, guards, frozenset(refusing), frozenset(outside))


def inside(plan: PortPlan) -> Choice:
    """What the address inside the cluster leads to."""
    [lead] = [lead for lead in plan.leads if lead.kind is Kind.CLUSTER_IP]
    return plan.choices[lead.inside]
