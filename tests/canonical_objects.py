"""The objects of the API behind the canonical flows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from tests.canonical import HERE, Policies, State

from tulle.model.address import Address
from tulle.model.services import (
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    Ingress,
    LoadBalancerStatus,
    Service,
    ServiceMeta,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
    SliceLabels,
    SliceMeta,
)

PORT, NODE_PORT, BACKEND_PORT = 80, 30_080, 8080
CONDITIONS = {
    State.READY: EndpointConditions(True, True, False),
    State.LEAVING: EndpointConditions(False, True, True),
    State.DOWN: EndpointConditions(False, False, False),
}


@dataclass(frozen=True)
class Addresses:
    """Of one Service, and of its endpoints by name; all of one family."""

    cluster: Address
    balancer: Address
    external: Address
    endpoints: Mapping[str, Address]


ADDRESSES = [
    Addresses(
        *map(ip_address, ("10.96.0.7", "198.51.100.7", "198.51.100.9")),
        {"L": ip_address("10.244.1.3"), "R": ip_address("10.244.2.2")},
    ),
    Addresses(
        *map(ip_address, ("fd00:10:96::7", "2001:db8:51::7", "2001:db8:51::9")),
        {"L": ip_address("fd00:244:1::3"), "R": ip_address("fd00:244:2::2")},
    ),
]


def service(
    policies: Policies,
    addresses: Addresses,
    protocol: str = "TCP",
    ranges: tuple[str, ...] = (),
    affinity: str = "None",
) -> Service:
    """``default/web``, with all doors that there are."""

    def word(local: bool) -> str:
        return "Local" if local else "Cluster"

    cluster = str(addresses.cluster)
    spec = ServiceSpec(
        type="LoadBalancer",
        cluster_ip=cluster,
        cluster_ips=(cluster,),
        ports=(ServicePort(PORT, "http", protocol, NODE_PORT),),
        session_affinity=affinity,
        internal_traffic_policy=word(policies.internal_local),
        external_traffic_policy=word(policies.external_local),
        external_ips=(str(addresses.external),),
        load_balancer_source_ranges=ranges,
    )
    balancer = LoadBalancerStatus((Ingress(str(addresses.balancer)),))
    return Service(ServiceMeta("web", "default"), spec, ServiceStatus(balancer))


def slices(
    endpoints: Mapping[str, State], addresses: Addresses, protocol: str = "TCP"
) -> list[EndpointSlice]:
    """Endpoints whose names begin with L are on node ``here``."""
    listed = tuple(
        Endpoint(
            (str(addresses.endpoints[name]),),
            CONDITIONS[state],
            node_name="here" if name.startswith(HERE) else "there",
        )
        for name, state in endpoints.items()
    )
    kind = f"IPv{addresses.cluster.version}"
    meta = SliceMeta("web-1", "default", SliceLabels("web"))
    return [EndpointSlice(meta, kind, listed, (EndpointPort("http", BACKEND_PORT, protocol),))]
