"""From a Service to what leads to it from outside: S-13, S-17, S-20 to S-27, S-40 to S-48, S-60 to S-65."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from msgspec import structs
from service_objects import HERE, HTTP, endpoint, endpoint_slice, only, plan, raw, said, service

from tulle.model.address import from_bytes
from tulle.model.services import (
    EndpointPort,
    EndpointSlice,
    Ingress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceStatus,
)
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.plan import Kind, Lead, OnEmpty, PortPlan, Traffic

NODE_PORT = (ServicePort(80, "http", node_port=30080),)
LOCAL = {"external_traffic_policy": "Local"}
INTERNAL = {"internal_traffic_policy": "Local"}
TWO_NODES = endpoint_slice(endpoint("10.1.0.1", node="here"), endpoint("10.2.0.1"))
ALL, OURS = ["10.1.0.1:8080", "10.2.0.1:8080"], ["10.1.0.1:8080"]


def asked(*addresses: str, ingress: tuple[Ingress, ...] = (), **spec: Any) -> Service:
    status = ServiceStatus(LoadBalancerStatus(ingress or None))
    return structs.replace(service(*addresses, **spec), status=status)


def lead(port: PortPlan, kind: Kind) -> Lead:
    [found] = [each for each in port.leads if each.kind is kind]
    return found


def led(port: PortPlan, kind: Kind) -> tuple[list[str], list[str]]:
    """Whom clients on this node, and others, reach by it."""
    found = lead(port, kind)
    return said(port.choices[found.inside].backends), said(port.choices[found.outside].backends)


def where(port: PortPlan) -> list[str]:
    found = [(each.kind, each.frontend) for each in port.leads]
    return [f"{kind.value} {from_bytes(f.address)}:{f.port} {f.scope.value}" for kind, f in found]


EVERYTHING: dict[str, Any] = {
    "ports": NODE_PORT,
    "external_ips": ("203.0.113.250",),
    "ingress": (Ingress("198.51.100.1"),),
}
OUTSIDE = (Kind.NODE_PORT, Kind.LOAD_BALANCER, Kind.EXTERNAL_IP)


def test_all_that_leads_to_a_service() -> None:
    """S-20, S-21, S-23, S-24."""
    assert where(only(asked(**EVERYTHING), TWO_NODES)) == [
        "ClusterIP 10.96.0.1:80 address",
        "NodePort 0.0.0.0:30080 node port",
        "LoadBalancer 198.51.100.1:80 address",
        "externalIP 203.0.113.250:80 address",
    ]


@pytest.mark.parametrize(
    ("policies", "cluster_ip", "outside"),
    [
        pytest.param({}, (ALL, ALL), (ALL, ALL), id="S-43"),
        pytest.param(LOCAL, (ALL, ALL), (ALL, OURS), id="S-44 to S-46"),
        pytest.param(INTERNAL, (OURS, OURS), (ALL, ALL), id="S-48"),
        pytest.param({**LOCAL, **INTERNAL}, (OURS, OURS), (ALL, OURS), id="both Local"),
    ],
)
def test_canonical_flows_by_every_frontend(
    policies: dict[str, Any], cluster_ip: tuple[list[str], list[str]], outside: tuple[list[str], list[str]]
) -> None:
    """Table 1(b).7: each frontend has its own policy, the ClusterIP also for clients outside (S-20)."""
    port = only(asked(**EVERYTHING, **policies), TWO_NODES)
    assert led(port, Kind.CLUSTER_IP) == cluster_ip
    assert [led(port, kind) for kind in OUTSIDE] == [outside] * 3


@pytest.mark.parametrize(
    ("slices", "cluster", "local"),
    [
        pytest.param([], OnEmpty.REJECT, OnEmpty.REJECT, id="S-40"),
        pytest.param([endpoint_slice(endpoint("10.2.0.1"))], OnEmpty.REJECT, OnEmpty.DROP, id="S-42"),
        pytest.param(
            [endpoint_slice(endpoint("10.2.0.1", state="leaving"))],
            OnEmpty.REJECT,
            OnEmpty.DROP,
            id="leaving",
        ),
        pytest.param(
            [endpoint_slice(endpoint("10.1.0.1", node="here", state="dying"))],
            OnEmpty.REJECT,
            OnEmpty.REJECT,
            id="S-40 Local",
        ),
    ],
)
def test_without_a_backend_for_clients_outside(
    slices: list[EndpointSlice], cluster: OnEmpty, local: OnEmpty
) -> None:
    port = only(asked(ports=NODE_PORT, **LOCAL), *slices)
    assert port.cluster and port.local and port.local.backends == ()
    assert (port.cluster.on_empty, port.local.on_empty) == (cluster, local)


def test_local_endpoints_that_are_leaving_serve_clients_outside() -> None:
    """S-31: until others are ready on this node, whatever there is elsewhere."""
    leaving = endpoint_slice(endpoint("10.1.0.1", node="here", state="leaving"), endpoint("10.2.0.1"))
    assert led(only(asked(ports=NODE_PORT, **LOCAL), leaving), Kind.NODE_PORT) == (["10.2.0.1:8080"], OURS)


def test_both_families() -> None:
    """S-17: of each, what is of that family; a node port is one of both."""
    both = asked(
        "10.96.0.1",
        "fd00:10:96::1",
        ports=NODE_PORT,
        external_ips=("203.0.113.250", "2001:db8::250"),
        ingress=(Ingress("2001:db8::1"), Ingress("198.51.100.1")),
    )
    assert [where(port) for port in plan(both).ports] == [
        [
            "ClusterIP 10.96.0.1:80 address",
            "NodePort 0.0.0.0:30080 node port",
            "LoadBalancer 198.51.100.1:80 address",
            "externalIP 203.0.113.250:80 address",
        ],
        [
            "ClusterIP fd00:10:96::1:80 address",
            "NodePort :::30080 node port",
            "LoadBalancer 2001:db8::1:80 address",
            "externalIP 2001:db8::250:80 address",
        ],
    ]


def test_an_address_of_a_family_that_the_service_is_not_of() -> None:
    """S-17."""
    six = asked(external_ips=("2001:db8::250",), ingress=(Ingress("2001:db8::1"),))
    assert where(only(six)) == ["ClusterIP 10.96.0.1:80 address"]


@pytest.mark.parametrize(
    ("ingress", "there"),
    [
        pytest.param(Ingress("198.51.100.1"), True, id="S-24 no mode"),
        pytest.param(Ingress("198.51.100.1", ip_mode="VIP"), True, id="S-24 VIP"),
        pytest.param(Ingress("198.51.100.1", ip_mode="Proxy"), False, id="S-24 Proxy"),
        pytest.param(Ingress(hostname="lb.example"), False, id="S-24 host name"),
    ],
)
def test_which_addresses_of_a_load_balancer_are_ours(ingress: Ingress, there: bool) -> None:
    """S-25: no node port is needed for it."""
    port = only(asked(type="LoadBalancer", ingress=(ingress,)), TWO_NODES)
    assert (Kind.LOAD_BALANCER in {each.kind for each in port.leads}) is there


@pytest.mark.parametrize(
    ("ranges", "sources"),
    [
        pytest.param((), None, id="none asked for"),
        pytest.param(("10.0.0.0/8", " 192.168.7.1/24 "), ["10.0.0.0/8", "192.168.7.0/24"], id="S-13"),
        pytest.param(("010.0.0.0/8",), ["10.0.0.0/8"], id="S-13 leading zero"),
        pytest.param(("10.0.0.0/8", "0.0.0.0/0"), None, id="S-61 a /0"),
        pytest.param(("2001:db8::/32",), None, id="S-17 of the other family only"),
        pytest.param(("10.0.0.0/8", "::/0"), ["10.0.0.0/8"], id="S-61 a /0 of the other family"),
    ],
)
def test_who_is_let_in(ranges: tuple[str, ...], sources: list[str] | None) -> None:
    """S-61: at the address of a load balancer, and nowhere else."""
    port = only(asked(**EVERYTHING, load_balancer_source_ranges=ranges))
    found = lead(port, Kind.LOAD_BALANCER).sources
    assert (None if found is None else list(map(str, found))) == sources
    assert all(each.sources is None for each in port.leads if each.kind is not Kind.LOAD_BALANCER)


def test_a_range_that_cannot_be_read_lets_nobody_in() -> None:
    """S-13: the others count; where there is no other, nobody is let in."""
    both = plan(asked(**EVERYTHING, load_balancer_source_ranges=("10.0.0.0/33", "10.0.0.0/8")))
    [problem] = both.problems
    assert problem.field == "spec.loadBalancerSourceRanges[0]"
    assert "'10.0.0.0/33' is no CIDR, such as 10.0.0.0/8" in problem.message
    assert lead(both.ports[0], Kind.LOAD_BALANCER).sources == (ip_network("10.0.0.0/8"),)
    none = plan(asked(**EVERYTHING, load_balancer_source_ranges=("everybody",)))
    assert lead(none.ports[0], Kind.LOAD_BALANCER).sources == ()


def test_a_node_that_is_let_in_may_come_by_the_address_itself() -> None:
    """S-61: it may have the load balancer's address, and use that as its own."""
    here = Location("here", "zone-a", frozenset([raw("192.168.7.9")]))
    ranges = {"load_balancer_source_ranges": ("192.168.7.0/24",)}
    found = lead(only(asked(**EVERYTHING, **ranges), here=here), Kind.LOAD_BALANCER).sources
    assert found == (ip_network("192.168.7.0/24"), ip_network("198.51.100.1/32"))
    elsewhere = Location("here", "zone-a", frozenset([raw("192.168.8.9")]))
    found = lead(only(asked(**EVERYTHING, **ranges), here=elsewhere), Kind.LOAD_BALANCER).sources
    assert found == (ip_network("192.168.7.0/24"),)


def test_one_address_twice() -> None:
    """As a load balancer's it lets fewer in."""
    port = only(
        asked(
            external_ips=("198.51.100.1", "198.51.100.1"),
            ingress=(Ingress("198.51.100.1"),),
            load_balancer_source_ranges=("10.0.0.0/8",),
        )
    )
    assert [each.kind for each in port.leads] == [Kind.CLUSTER_IP, Kind.LOAD_BALANCER]


def test_ports_of_one_service_have_their_own_node_ports() -> None:
    """S-26: one number may be two protocols'."""
    ports = (
        ServicePort(53, "dns", "UDP", node_port=30053),
        ServicePort(53, "dns-tcp", node_port=30053),
        ServicePort(9153, "metrics"),
    )
    found = plan(asked(ports=ports, ingress=(Ingress("198.51.100.1"),))).ports
    assert [[(f.port, f.protocol) for f in port.frontends] for port in found] == [
        [(53, 17), (30053, 17), (53, 17)],
        [(53, 6), (30053, 6), (53, 6)],
        [(9153, 6), (9153, 6)],
    ]


@pytest.mark.parametrize("number", [-1, 65536])
def test_a_node_port_that_cannot_be(number: int) -> None:
    planned = plan(asked(ports=(ServicePort(80, "http", node_port=number),)), TWO_NODES)
    assert [p.field for p in planned.problems] == ["spec.ports[0].nodePort"]
    assert where(planned.ports[0]) == ["ClusterIP 10.96.0.1:80 address"]


@pytest.mark.parametrize("text", ["127.0.0.1", "169.254.1.1", "0.0.0.0", "224.0.0.1", "x"])
def test_an_address_outside_that_cannot_be(text: str) -> None:
    planned = plan(asked(external_ips=(text,), ingress=(Ingress(text),)))
    assert [p.field for p in planned.problems] == ["status.loadBalancer.ingress[0].ip", "spec.externalIPs[0]"]
    assert where(planned.ports[0]) == ["ClusterIP 10.96.0.1:80 address"]


def test_affinity_is_the_ports() -> None:
    """S-60: one for all frontends, which the table keeps by one number."""
    assert only(asked(**EVERYTHING, **LOCAL, session_affinity="ClientIP")).affinity == 10800


def test_old_udp_flows_go_on_whatever_the_policy() -> None:
    """S-65: for either set, all that serve."""
    slices = endpoint_slice(
        endpoint("10.1.0.1", node="here", state="leaving"),
        endpoint("10.2.0.1"),
        ports=(EndpointPort("http", 8080, "UDP"),),
    )
    port = only(asked(ports=(ServicePort(80, "http", "UDP", node_port=30080),), **LOCAL), slices)
    assert port.cluster and port.local
    assert said(port.cluster.serving) == said(port.local.serving) == ALL


def test_the_type_may_change() -> None:
    """S-27: what is no longer asked for is no longer there."""
    assert where(only(asked(ports=NODE_PORT, type="NodePort")))[1:] == ["NodePort 0.0.0.0:30080 node port"]
    assert where(only(asked(ports=(HTTP,))))[1:] == []
    assert not plan(asked(type="ExternalName", ports=NODE_PORT)).ports


def test_a_service_for_clients_inside_has_one_choice() -> None:
    port = only(asked(), TWO_NODES, here=HERE)
    assert list(port.choices) == [Traffic.CLUSTER] and port.local is None
    assert ip_address("10.96.0.1") == from_bytes(port.frontends[0].address)
