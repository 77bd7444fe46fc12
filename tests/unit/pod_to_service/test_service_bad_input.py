"""What cannot be right is left out and told, with the field; everything else goes on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from service_objects import HTTP, endpoint, endpoint_slice, plan, said, service
from tests.plans import inside

from tulle.model.services import (
    ClientIPConfig,
    EndpointPort,
    EndpointSlice,
    Ingress,
    LoadBalancerStatus,
    ServicePort,
    ServiceStatus,
    SessionAffinityConfig,
)
from tulle.pod_to_service.plan import ServicePlan

GOOD = endpoint_slice(endpoint("10.1.0.1"), name="good")


def complaints(plan: ServicePlan) -> list[tuple[str, str]]:
    return [(p.field, p.message) for p in plan.problems]


@pytest.mark.parametrize(
    ("addresses", "spec", "field", "message"),
    [
        (("10.96.0.300",), {}, "clusterIPs[0]", "'10.96.0.300' is no IP address"),
        (("127.0.0.1",), {}, "clusterIPs[0]", "loopback"),
        (("10.96.0.1", "10.96.0.2"), {}, "clusterIPs[1]", "'10.96.0.2' is the second IPv4 address"),
        (
            (),
            {"type": "Cluster"},
            "type",
            "'Cluster' is not ClusterIP, NodePort, LoadBalancer or ExternalName",
        ),
        (
            (),
            {"internal_traffic_policy": "local"},
            "internalTrafficPolicy",
            "'local' is not Cluster or Local; it is",
        ),
        (
            (),
            {"external_traffic_policy": "Global"},
            "externalTrafficPolicy",
            "'Global' is not Cluster or Local",
        ),
        ((), {"session_affinity": "Cookie"}, "sessionAffinity", "'Cookie' is not None or ClientIP"),
        ((), {"external_ips": ("a.b", "198.51.100.1")}, "externalIPs[0]", "'a.b' is no IP address"),
        ((), {"ports": (HTTP, ServicePort(0, "b"))}, "ports[1].port", "0 is not a number from 1 to 65535"),
        (
            (),
            {"ports": (HTTP, ServicePort(65536, "b"))},
            "ports[1].port",
            "65536 is not a number from 1 to 65535",
        ),
        (
            (),
            {"ports": (HTTP, ServicePort(1, "b", "tcp"))},
            "ports[1].protocol",
            "'tcp' is not TCP, UDP or SCTP",
        ),
        (
            (),
            {"ports": (HTTP, ServicePort(80, "b"))},
            "ports[1]",
            "'b' TCP 80 has the name or the number of a port",
        ),
        (
            (),
            {"ports": (HTTP, ServicePort(81, "http"))},
            "ports[1]",
            "'http' TCP 81 has the name or the number",
        ),
    ],
)
def test_services(addresses: tuple[str, ...], spec: dict[str, Any], field: str, message: str) -> None:
    planned = plan(service(*addresses, **spec), GOOD)
    ((told_field, told),) = complaints(planned)
    assert told_field == f"spec.{field}"
    assert message in told
    assert (planned.problems[0].kind, planned.problems[0].key) == ("Service", ("default", "web"))
    served = [said(inside(port).backends) for port in planned.ports]
    assert served == ([] if "clusterIPs[0]" in field else [["10.1.0.1:8080"]])


@pytest.mark.parametrize("seconds", [0, -1, 86401])
def test_affinity_out_of_range(seconds: int) -> None:
    """S-60: the default, as the user did ask for affinity."""
    config = SessionAffinityConfig(ClientIPConfig(seconds))
    planned = plan(service(session_affinity="ClientIP", session_affinity_config=config))
    assert complaints(planned) == [
        (
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            f"{seconds} is not from 1 to 86400; it is taken for 10800",
        )
    ]
    assert planned.ports[0].affinity == 10800


def test_an_address_of_a_load_balancer() -> None:
    """S-13, S-24: what a balancer keeps for itself, or has as a name only, is not looked at."""
    ingress = (
        Ingress("here"),
        Ingress("proxy", ip_mode="Proxy"),
        Ingress(hostname="lb"),
        Ingress("198.51.100.1"),
    )
    balanced = msgspec.structs.replace(service(), status=ServiceStatus(LoadBalancerStatus(ingress)))
    planned = plan(balanced, GOOD)
    assert complaints(planned) == [("status.loadBalancer.ingress[0].ip", "'here' is no IP address")]


NO_PORTS = endpoint_slice(endpoint("10.1.0.9"), ports=None)


@pytest.mark.parametrize(
    ("bad", "field", "message"),
    [
        (endpoint_slice(endpoint()), "endpoints[0].addresses", "there is none"),
        (
            endpoint_slice(endpoint("10.1.0.2"), endpoint("x")),
            "endpoints[1].addresses",
            "'x' is no IP address",
        ),
        (endpoint_slice(endpoint("fd00::1")), "endpoints[0].addresses", "'fd00::1' is not an IPv4 address"),
        (endpoint_slice(endpoint("127.0.0.1")), "endpoints[0].addresses", "loopback"),
        (endpoint_slice(endpoint("10.1.0.9"), kind="IP"), "addressType", "'IP' is not IPv4, IPv6 or FQDN"),
        (NO_PORTS, "ports", "there is none"),
        (
            endpoint_slice(endpoint("10.1.0.9"), ports=(EndpointPort(None, 80),)),
            "ports[0].name",
            "none is given",
        ),
        (
            endpoint_slice(endpoint("10.1.0.9"), ports=(EndpointPort("http"),)),
            "ports[0].port",
            "none is not a number",
        ),
        (
            endpoint_slice(endpoint("10.1.0.9"), ports=(EndpointPort("http", 0),)),
            "ports[0].port",
            "from 1 to 65535",
        ),
        (
            endpoint_slice(endpoint("10.1.0.9"), ports=(EndpointPort("http", 1, "IP"),)),
            "ports[0].protocol",
            "'IP'",
        ),
    ],
)
def test_slices(bad: EndpointSlice, field: str, message: str) -> None:
    """S-05 to S-07."""
    planned = plan(service(), bad, GOOD)
    ((told_field, told),) = complaints(planned)
    assert told_field == field
    assert message in told
    assert (planned.problems[0].kind, planned.problems[0].key) == ("EndpointSlice", ("default", "web-1"))
    assert "10.1.0.1:8080" in said(inside(planned.ports[0]).backends)
    assert "10.1.0.9:8080" not in said(inside(planned.ports[0]).backends)


def test_a_thousand_bad_endpoints_are_one_problem() -> None:
    planned = plan(service(), endpoint_slice(*[endpoint("no") for _ in range(1000)]), GOOD)
    assert len(planned.problems) == 1


def test_an_endpoint_in_two_places() -> None:
    """S-09: whoever comes first, it is here, and told."""
    here, there = endpoint("10.1.0.1", node="here"), endpoint("10.1.0.1", node="there")
    local = service(internal_traffic_policy="Local")
    for names in (("a", "b"), ("b", "a")):
        planned = plan(local, endpoint_slice(here, name=names[0]), endpoint_slice(there, name=names[1]))
        assert [p.key[1] for p in planned.problems] == ["b"]
        assert complaints(planned)[0][0] == "endpoints[].nodeName"
        assert said(inside(planned.ports[0]).backends) == ["10.1.0.1:8080"]


def test_a_slice_without_endpoints_is_no_problem() -> None:
    empty = endpoint_slice(ports=None)
    assert plan(service(), empty).problems == ()
    assert plan(service(), msgspec.structs.replace(empty, endpoints=None)).problems == ()


def test_a_service_without_ports() -> None:
    assert plan(service(ports=()), GOOD) == ServicePlan()
