"""What the kernel's Service table should have for the host ports of one Pod. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tulle.external_to_service.host_port_claims import Entry, entries
from tulle.kube.resources import Key
from tulle.model.address import to_bytes
from tulle.pod_to_pod.store import Attachment
from tulle.pod_to_service.addresses import family_of
from tulle.pod_to_service.plan import (
    PROTOCOLS,
    UDP,
    Backend,
    Choice,
    Frontend,
    Kind,
    Lead,
    PortPlan,
    Scope,
    Traffic,
)

_OWNER = "hostPort"
"""Where Services have their namespace: no namespace has such a name."""


def table_key(attachment: Attachment) -> Key:
    """What the attachment's host ports are known by in the table."""
    return _OWNER, attachment.link


def plan_host_ports(attachment: Attachment) -> tuple[PortPlan, ...]:
    """One for each end in the Pod, with all host ports that lead there."""
    ends: defaultdict[tuple[Backend, int], list[Lead]] = defaultdict(list)
    for port in attachment.host_ports:
        for entry in entries(port, attachment.addresses):
            end = Backend(to_bytes(entry.pod), entry.pod_port)
            ends[end, PROTOCOLS[entry.protocol]].append(_lead(entry))
    return tuple(_plan(attachment, end, protocol, leads) for (end, protocol), leads in ends.items())


def reserved(attachments: Iterable[Attachment]) -> dict[Frontend, str]:
    """Host ports with an address of their own, which no Service can have, and whose each is in words."""
    return {
        lead.frontend: f"Pod {attachment.owner}"
        for attachment in attachments
        if attachment.host_ports
        for plan in plan_host_ports(attachment)
        for lead in plan.leads
        if lead.frontend.scope is Scope.ADDRESS
    }


def udp_ends(attachment: Attachment) -> frozenset[Backend]:
    """Those that connected sockets may be left with when the Pod goes."""
    plans = plan_host_ports(attachment)
    return frozenset(plan.cluster.backends[0] for plan in plans if plan.protocol == UDP and plan.cluster)


def _lead(entry: Entry) -> Lead:
    scope = Scope.HOST_PORT if entry.everywhere else Scope.ADDRESS
    frontend = Frontend(to_bytes(entry.address), entry.port, PROTOCOLS[entry.protocol], scope)
    return Lead(frontend, Kind.HOST_PORT, Traffic.CLUSTER, Traffic.CLUSTER)


def _plan(attachment: Attachment, end: Backend, protocol: int, leads: list[Lead]) -> PortPlan:
    return PortPlan(
        service=table_key(attachment),
        port=str(end.port),
        protocol=protocol,
        family=family_of(end.address),
        affinity=0,
        leads=tuple(sorted(leads)),
        cluster=Choice((end,), (end,) if protocol == UDP else ()),
    )
