"""From a Service and its slices to backends: S-01 to S-13, S-20, S-26, S-36 to S-48, S-60, S-65."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs
from service_objects import HERE, HTTP, endpoint, endpoint_slice, hints, only, plan, raw, said, service
from tests.plans import inside

from tulle.model.services import (
    ClientIPConfig,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    Ingress,
    LoadBalancerStatus,
    Service,
    ServiceLabels,
    ServiceMeta,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
    SessionAffinityConfig,
)
from tulle.pod_to_service.asked import read_service
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.plan import Frontend, OnEmpty, ServicePlan

LOCAL = {"internal_traffic_policy": "Local"}
TWO_NODES = endpoint_slice(endpoint("10.1.0.1", node="here"), endpoint("10.2.0.1"))


def test_a_cluster_ip_with_its_endpoints() -> None:
    """S-20, S-36: all of them, sorted, and nothing of UDP."""
    port = only(service(), TWO_NODES)
    assert port.service == ("default", "web")
    assert (port.port, port.protocol, port.family, port.affinity) == ("http", 6, 4, 0)
    assert port.frontends == (Frontend(raw("10.96.0.1"), 80, 6),)
    assert said(inside(port).backends) == ["10.1.0.1:8080", "10.2.0.1:8080"]
    assert inside(port).serving == ()
    assert inside(port).on_empty is OnEmpty.REJECT


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        pytest.param({}, ["10.1.0.1:8080", "10.2.0.1:8080"], id="default"),
        pytest.param(
            {
                "external_traffic_policy": "Local",
                "type": "NodePort",
                "ports": (ServicePort(80, "http", node_port=30080),),
            },
            ["10.1.0.1:8080", "10.2.0.1:8080"],
            id="eTP=Local",
        ),
        pytest.param(LOCAL, ["10.1.0.1:8080"], id="iTP=Local"),
    ],
)
def test_canonical_flows_to_a_cluster_ip(policies: dict[str, Any], expected: list[str]) -> None:
    """The column ClusterIP of 1(b).7. The source, Pod or node, decides only what is masqueraded (S-48)."""
    assert said(inside(only(service(**policies), TWO_NODES)).backends) == expected


@pytest.mark.parametrize(
    ("labels", "spec"),
    [
        pytest.param(ServiceLabels(proxy_name=""), {}, id="S-01"),
        pytest.param(ServiceLabels(headless=""), {}, id="S-03 on the Service"),
        pytest.param(None, {"cluster_ip": "None", "cluster_ips": ("None",)}, id="S-02 headless"),
        pytest.param(None, {"cluster_ip": ""}, id="S-02 no address yet"),
        pytest.param(None, {"type": "ExternalName"}, id="S-02 ExternalName with an address"),
    ],
)
def test_services_that_are_not_ours(labels: ServiceLabels | None, spec: dict[str, Any]) -> None:
    asked = {"cluster_ip": "10.96.0.1", "ports": (HTTP,), **spec}
    other = Service(ServiceMeta("web", "default", labels=labels), ServiceSpec(**asked))
    assert plan(other, TWO_NODES) == ServicePlan()


def test_both_families_of_a_dual_stack_service() -> None:
    """S-05, S-17: each from the slices of its own family."""
    six = endpoint_slice(endpoint("fd00::1"), name="web-6", kind="IPv6")
    planned = plan(service("fd00:10:96::1", "10.96.0.1"), TWO_NODES, six)
    assert planned.problems == ()
    assert [(p.family, said(inside(p).backends)) for p in planned.ports] == [
        (6, ["fd00::1:8080"]),
        (4, ["10.1.0.1:8080", "10.2.0.1:8080"]),
    ]


def test_slices_of_another_family_and_names_are_ignored() -> None:
    """S-05."""
    six = endpoint_slice(endpoint("fd00::1"), name="web-6", kind="IPv6")
    names = endpoint_slice(endpoint("web.example"), name="web-n", kind="FQDN")
    assert inside(only(service(), six, names)).backends == ()


def test_ports_are_joined_by_name_and_protocol() -> None:
    """S-08, S-26: one number for two protocols, and numbers that differ between slices."""
    dns = (ServicePort(53, "dns", "UDP"), ServicePort(53, "dns-tcp"), ServicePort(9153, "metrics"))
    slices = [
        endpoint_slice(
            endpoint("10.1.0.1"),
            name="old",
            ports=(EndpointPort("dns", 53, "UDP"), EndpointPort("dns-tcp", 53), EndpointPort("dns", 99)),
        ),
        endpoint_slice(
            endpoint("10.1.0.2"),
            name="new",
            ports=(EndpointPort("dns", 5353, "UDP"), EndpointPort("dns-tcp", 5353, None)),
        ),
    ]
    planned = plan(service(ports=dns), *slices)
    assert planned.problems == ()
    assert [(p.port, p.protocol, p.frontends[0].port, said(inside(p).backends)) for p in planned.ports] == [
        ("dns", 17, 53, ["10.1.0.1:53", "10.1.0.2:5353"]),
        ("dns-tcp", 6, 53, ["10.1.0.1:53", "10.1.0.2:5353"]),
        ("metrics", 6, 9153, []),
    ]


def test_a_port_without_a_name() -> None:
    port = only(
        service(ports=(ServicePort(80),)), endpoint_slice(endpoint("10.1.0.1"), ports=(EndpointPort("", 80),))
    )
    assert said(inside(port).backends) == ["10.1.0.1:80"]


def test_sctp() -> None:
    slices = endpoint_slice(endpoint("10.1.0.1"), ports=(EndpointPort("http", 38412, "SCTP"),))
    port = only(service(ports=(ServicePort(38412, "http", "SCTP"),)), slices)
    assert (port.protocol, said(inside(port).backends), inside(port).serving) == (132, ["10.1.0.1:38412"], ())


def test_only_the_first_address_counts() -> None:
    """S-06."""
    assert said(inside(only(service(), endpoint_slice(endpoint("10.1.0.1", "10.1.0.2")))).backends) == [
        "10.1.0.1:8080"
    ]


def test_conditions_that_are_not_given() -> None:
    """S-10."""
    unknown = Endpoint(("10.1.0.1",), EndpointConditions())
    assert said(inside(only(service(), endpoint_slice(unknown))).backends) == ["10.1.0.1:8080"]


def test_it_serves_until_something_else_is_said() -> None:
    """S-10, S-31."""
    leaving = Endpoint(("10.1.0.1",), EndpointConditions(ready=False, terminating=True))
    assert said(inside(only(service(), endpoint_slice(leaving))).backends) == ["10.1.0.1:8080"]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize(("state", "expected"), [("ready", ["10.1.0.1:8080"]), ("unready", [])])
def test_of_two_that_disagree_the_one_that_does_not_terminate(
    names: tuple[str, str], state: str, expected: list[str]
) -> None:
    """S-09: whichever slice comes first, and even if the other could be used."""
    lasting, leaving = endpoint("10.1.0.1", state=state), endpoint("10.1.0.1", state="leaving")
    slices = [endpoint_slice(lasting, name=names[0]), endpoint_slice(leaving, name=names[1])]
    assert said(inside(only(service(), *slices)).backends) == expected


def test_the_same_endpoint_in_two_slices_is_one() -> None:
    """S-09."""
    slices = [endpoint_slice(endpoint("10.1.0.1"), name=n) for n in ("a", "b")]
    assert said(inside(only(service(), *slices)).backends) == ["10.1.0.1:8080"]


def test_an_endpoint_of_the_hosts_network() -> None:
    """S-37: a node's address, and two of them on one address with two ports."""
    slices = [
        endpoint_slice(endpoint("192.168.0.2"), name=str(number), ports=(EndpointPort("http", number),))
        for number in (8080, 9090)
    ]
    assert said(inside(only(service(), *slices)).backends) == ["192.168.0.2:8080", "192.168.0.2:9090"]


def test_addresses_are_canonical() -> None:
    """S-13."""
    port = only(service("010.96.0.01"), endpoint_slice(endpoint("::ffff:10.1.0.1"), endpoint("010.1.0.1")))
    assert port.frontends[0].address == raw("10.96.0.1")
    assert said(inside(port).backends) == ["10.1.0.1:8080"]


def test_hints_are_followed_for_policy_cluster_alone() -> None:
    """S-12, S-32, S-33."""
    slices = endpoint_slice(
        endpoint("10.1.0.1", node="here", hints=hints(("zone-b",))),
        endpoint("10.1.0.2", hints=hints(("zone-a", "zone-b"))),
        endpoint("10.1.0.3", hints=hints(("zone-b",))),
    )
    assert said(inside(only(service(), slices)).backends) == ["10.1.0.2:8080"]
    assert said(inside(only(service(**LOCAL), slices)).backends) == ["10.1.0.1:8080"]


@pytest.mark.parametrize(
    ("spec", "slices", "expected"),
    [
        pytest.param({}, [], OnEmpty.REJECT, id="S-40 no slice"),
        pytest.param({}, [endpoint_slice(endpoint("10.1.0.1", state="unready"))], OnEmpty.REJECT, id="S-40"),
        pytest.param(
            LOCAL, [endpoint_slice(endpoint("10.1.0.1", state="dying"))], OnEmpty.REJECT, id="S-40 Local"
        ),
        pytest.param(LOCAL, [endpoint_slice(endpoint("10.1.0.1"))], OnEmpty.DROP, id="S-41"),
        pytest.param(
            LOCAL, [endpoint_slice(endpoint("10.1.0.1", state="leaving"))], OnEmpty.DROP, id="S-41 leaving"
        ),
        pytest.param(
            LOCAL, [endpoint_slice(endpoint("10.1.0.1", node=None))], OnEmpty.DROP, id="S-41 no node"
        ),
    ],
)
def test_without_a_backend(spec: dict[str, Any], slices: list[EndpointSlice], expected: OnEmpty) -> None:
    port = only(service(**spec), *slices)
    assert (inside(port).backends, inside(port).on_empty) == ((), expected)


def test_an_endpoint_without_a_node_is_not_local_to_a_node_without_a_name() -> None:
    """S-11."""
    nowhere = endpoint_slice(endpoint("10.1.0.1", node=""), endpoint("10.1.0.2", node=None))
    assert inside(only(service(**LOCAL), nowhere, here=Location(""))).backends == ()


def client_ip(seconds: int | None) -> dict[str, Any]:
    return {
        "session_affinity": "ClientIP",
        "session_affinity_config": SessionAffinityConfig(ClientIPConfig(seconds)),
    }


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, 0),
        ({"session_affinity": "None"}, 0),
        ({"session_affinity": "ClientIP"}, 10800),
        (client_ip(None), 10800),
        (client_ip(125), 125),
        (client_ip(86400), 86400),
    ],
)
def test_session_affinity(spec: dict[str, Any], seconds: int) -> None:
    """S-60."""
    assert only(service(**spec)).affinity == seconds


UDP = (ServicePort(53, "dns", "UDP"),)


@pytest.mark.parametrize(
    ("spec", "states", "serving"),
    [
        pytest.param(
            {}, ["ready", "leaving", "dying", "unready"], ["10.1.0.0:53", "10.1.0.1:53"], id="all that serve"
        ),
        pytest.param(LOCAL, ["ready", "ready"], ["10.1.0.0:53", "10.1.0.1:53"], id="whatever the policy"),
        pytest.param({}, ["dying", "unready"], [], id="none: nothing is ended"),
    ],
)
def test_whose_udp_flows_go_on(spec: dict[str, Any], states: list[str], serving: list[str]) -> None:
    """S-65."""
    endpoints = [endpoint(f"10.1.0.{i}", state=state) for i, state in enumerate(states)]
    port = only(
        service(ports=UDP, **spec), endpoint_slice(*endpoints, ports=(EndpointPort("dns", 53, "UDP"),))
    )
    assert said(inside(port).serving) == serving


def test_topology_does_not_end_udp_flows() -> None:
    """S-65."""
    slices = endpoint_slice(
        endpoint("10.1.0.1", hints=hints(("zone-a",))),
        endpoint("10.1.0.2", hints=hints(("zone-b",))),
        ports=(EndpointPort("dns", 53, "UDP"),),
    )
    port = only(service(ports=UDP), slices)
    assert said(inside(port).backends) == ["10.1.0.1:53"]
    assert said(inside(port).serving) == ["10.1.0.1:53", "10.1.0.2:53"]


def test_who_gets_new_udp_flows_keeps_its_old_ones() -> None:
    """S-35, S-65: an endpoint that was published before it is ready does not serve."""
    published = Endpoint(("10.1.0.1",), EndpointConditions(ready=True, serving=False))
    slices = endpoint_slice(published, endpoint("10.1.0.2"), ports=(EndpointPort("dns", 53, "UDP"),))
    port = only(service(ports=UDP), slices)
    assert inside(port).serving == inside(port).backends != ()


def test_the_zone_of_the_node_counts() -> None:
    """S-15."""
    slices = endpoint_slice(
        endpoint("10.1.0.1", hints=hints(("zone-a",))), endpoint("10.1.0.2", hints=hints(("zone-b",)))
    )
    assert said(inside(only(service(), slices, here=HERE)).backends) == ["10.1.0.1:8080"]
    assert said(inside(only(service(), slices, here=Location("here", "zone-b"))).backends) == [
        "10.1.0.2:8080"
    ]


@pytest.mark.parametrize(
    ("reached", "families"),
    [
        ({}, []),
        ({"ports": (ServicePort(80, "http", node_port=30080),)}, [4, 6]),
        ({"external_ips": ("198.51.100.1",)}, [4]),
        ({"external_ips": ("2001:db8::1", "nowhere")}, [6]),
        ({"ingress": Ingress("198.51.100.1")}, [4]),
        ({"ingress": Ingress("198.51.100.1", ip_mode="VIP")}, [4]),
        ({"ingress": Ingress("198.51.100.1", ip_mode="Proxy")}, []),
        ({"ingress": Ingress(hostname="lb.example")}, []),
    ],
)
def test_in_which_families_a_port_can_be_reached_from_outside(
    reached: dict[str, Any], families: list[int]
) -> None:
    """S-17, S-24, S-30."""
    spec = {name: value for name, value in reached.items() if name != "ingress"}
    status = ServiceStatus(LoadBalancerStatus((reached["ingress"],) if "ingress" in reached else None))
    asked = read_service(structs.replace(service(**spec), status=status), [])
    assert [f for f in (4, 6) if asked.policy(asked.ports[0], f).accessible] == families
