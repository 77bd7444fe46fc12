"""From a Service and its EndpointSlices to what the kernel should do for it on this node. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tulle.kube.resources import Key
from tulle.model.services import EndpointSlice, Service
from tulle.pod_to_service.asked import Asked, AskedPort, is_ours, read_service
from tulle.pod_to_service.categorize import Categories, Endpoints, Location, categorize
from tulle.pod_to_service.endpoints import PortKey, find_endpoints
from tulle.pod_to_service.plan import UDP, Backend, Frontend, OnEmpty, PortPlan, Problem, ServicePlan


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
    plans = [_internal(key, asked, port, join.family, found[join], here) for join, port in wanted]
    return ServicePlan(tuple(plans), (*problems, *wrong))


def _internal(
    service: Key, asked: Asked, port: AskedPort, family: int, endpoints: Endpoints, here: Location
) -> PortPlan:
    """The frontends inside the cluster (S-20): ``internalTrafficPolicy`` alone counts for them (S-48)."""
    categories = categorize(endpoints, asked.policy(port, family), here)
    backends = categories.local if asked.internal_local else categories.cluster
    return PortPlan(
        service=service,
        port=port.name,
        protocol=port.protocol,
        family=family,
        frontends=(Frontend(asked.cluster_ips[family], port.port, port.protocol),),
        backends=backends,
        serving=_serving(endpoints, backends) if port.protocol == UDP else (),
        affinity=asked.affinity,
        on_empty=_on_empty(asked, categories),
    )


def _on_empty(asked: Asked, categories: Categories) -> OnEmpty:
    """With endpoints elsewhere, it is the traffic policy that leaves none (S-41); else S-40."""
    return OnEmpty.DROP if asked.internal_local and categories.anywhere else OnEmpty.REJECT


def _serving(endpoints: Endpoints, backends: tuple[Backend, ...]) -> tuple[Backend, ...]:
    """S-65, and whoever gets new flows: what ``publishNotReadyAddresses`` calls ready need not serve."""
    serving = sorted(
        [backend for backend, standing in endpoints.items() if standing.serving or standing.ready]
    )
    return backends if len(serving) == len(backends) else tuple(serving)
