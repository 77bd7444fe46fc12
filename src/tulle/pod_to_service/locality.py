"""Which traffic policies leave a Service without endpoints on this node. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tulle.model.services import EndpointSlice, Service
from tulle.pod_to_service.asked import is_ours, read_service
from tulle.pod_to_service.categorize import Location, Policy, categorize
from tulle.pod_to_service.endpoints import PortKey, find_endpoints

LOCAL = Policy(internal_local=True)


def lacks_local(service: Service, slices: Iterable[EndpointSlice], node: str) -> frozenset[tuple[int, str]]:
    """Families, each with ``internal`` or ``external``: the policy is Local, and all endpoints that a port
    has are elsewhere (S-41, S-42, S-71).
    """
    spec = service.spec
    if "Local" not in (spec.internal_traffic_policy, spec.external_traffic_policy) or not is_ours(service):
        return frozenset()
    asked = read_service(service, [])
    here = Location(node)
    joins = {PortKey(f, p.name, p.protocol): p for p in asked.ports for f in asked.cluster_ips}
    found, _ = find_endpoints(slices, joins, here)
    lacking: set[tuple[int, str]] = set()
    for join, port in joins.items():
        categories = categorize(found[join], LOCAL, here)
        if categories.anywhere and not categories.local:
            policy = asked.policy(port, join.family)
            lacking |= {(join.family, "internal")} if asked.internal_local else set()
            lacking |= {(join.family, "external")} if policy.external_local and policy.accessible else set()
    return frozenset(lacking)
