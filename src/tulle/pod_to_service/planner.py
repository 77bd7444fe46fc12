"""From a Service and its EndpointSlices to what the kernel should do for it on this node. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tulle.kube.resources import Key
from tulle.model.address import Network, from_bytes, host_network
from tulle.model.services import EndpointSlice, Service
from tulle.pod_to_service.addresses import family_of
from tulle.pod_to_service.asked import Asked, AskedPort, is_ours, read_service
from tulle.pod_to_service.categorize import Endpoints, Location, categorize
from tulle.pod_to_service.endpoints import PortKey, find_endpoints
from tulle.pod_to_service.plan import (
    ANY_ADDRESS,
    UDP,
    Backend,
    Choice,
    Frontend,
    Kind,
    Lead,
    OnEmpty,
    PortPlan,
    Problem,
    Scope,
    ServicePlan,
    Traffic,
)


def plan_service(service: Service, slices: Iterable[EndpointSlice], here: Location) -> ServicePlan:
    """``slices`` are those of this Service, in any order; it is empty if the Service is not ours."""
    if not is_ours(service):
        return ServicePlan()
    problems: list[Problem] = []
    asked = read_service(service, problems)
    key = (service.metadata.namespace, service.metadata.name)
    wanted = [
        (PortKey(family, port.name, port.protocol), port)
        for port in asked.ports
        for family in asked.cluster_ips
    ]
    found, wrong = find_endpoints(slices, [join for join, _ in wanted], here)
    plans = [_port(key, asked, port, join.family, found[join], here) for join, port in wanted]
    return ServicePlan(tuple(plans), (*problems, *wrong))


def leads_of(service: Service) -> tuple[Lead, ...]:
    """All that lead to a Service; none if it is not ours."""
    if not is_ours(service):
        return ()
    asked = read_service(service, [])
    families = asked.cluster_ips
    return tuple(
        lead for port in asked.ports for family in families for lead in find_leads(asked, port, family)
    )


def _port(
    service: Key, asked: Asked, port: AskedPort, family: int, endpoints: Endpoints, here: Location
) -> PortPlan:
    categories = categorize(endpoints, asked.policy(port, family), here)
    leads = find_leads(asked, port, family, here.addresses)
    used = {traffic for lead in leads for traffic in (lead.inside, lead.outside)}
    cluster = local = None
    if Traffic.CLUSTER in used:
        cluster = _choice(endpoints, port, categories.cluster, OnEmpty.REJECT)
    if Traffic.LOCAL in used:
        on_empty = OnEmpty.DROP if categories.anywhere else OnEmpty.REJECT  # S-41, S-42; S-40
        local = _choice(endpoints, port, categories.local, on_empty)
    return PortPlan(
        service=service,
        port=port.name,
        protocol=port.protocol,
        family=family,
        affinity=asked.affinity,
        leads=leads,
        cluster=cluster,
        local=local,
    )


def find_leads(
    asked: Asked, port: AskedPort, family: int, own: frozenset[bytes] = frozenset()
) -> tuple[Lead, ...]:
    """The frontends of one port in one family. ``own``: the Node's addresses.

    Where two of them are the same, the first counts: the one that lets fewer in.
    """
    internal = _traffic(asked.internal_local)
    external = _traffic(asked.external_local)
    leads = [Lead(_at(asked.cluster_ips[family], port), Kind.CLUSTER_IP, internal, internal)]
    if port.node_port:
        anywhere = Frontend(ANY_ADDRESS[family], port.node_port, port.protocol, Scope.NODE_PORT)
        leads.append(Lead(anywhere, Kind.NODE_PORT, Traffic.CLUSTER, external))
    for address in asked.vips:
        if family_of(address) == family:
            sources = _sources(asked, family, address, own)
            leads.append(Lead(_at(address, port), Kind.LOAD_BALANCER, Traffic.CLUSTER, external, sources))
    for address in asked.external_ips:
        if family_of(address) == family:
            leads.append(Lead(_at(address, port), Kind.EXTERNAL_IP, Traffic.CLUSTER, external))
    by_frontend: dict[Frontend, Lead] = {}
    for lead in leads:
        by_frontend.setdefault(lead.frontend, lead)
    return tuple(by_frontend.values())


def _traffic(local: bool) -> Traffic:
    return Traffic.LOCAL if local else Traffic.CLUSTER


def _at(address: bytes, port: AskedPort) -> Frontend:
    return Frontend(address, port.port, port.protocol)


def _sources(asked: Asked, family: int, vip: bytes, own: frozenset[bytes]) -> tuple[Network, ...] | None:
    """A node that may come by its own address may do so by the VIP, should it have that, too (S-61)."""
    sources = asked.sources.get(family)
    if sources and any(from_bytes(address) in network for address in own for network in sources):
        return tuple(sorted({*sources, host_network(from_bytes(vip))}, key=str))
    return sources


def _choice(
    endpoints: Endpoints, port: AskedPort, backends: tuple[Backend, ...], on_empty: OnEmpty
) -> Choice:
    return Choice(backends, _serving(endpoints, backends) if port.protocol == UDP else (), on_empty)


def _serving(endpoints: Endpoints, backends: tuple[Backend, ...]) -> tuple[Backend, ...]:
    """S-65, and whoever gets new flows: what ``publishNotReadyAddresses`` calls ready need not serve."""
    serving = sorted(
        [backend for backend, standing in endpoints.items() if standing.serving or standing.ready]
    )
    return backends if len(serving) == len(backends) else tuple(serving)
