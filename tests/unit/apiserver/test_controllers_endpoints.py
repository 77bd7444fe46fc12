"""EndpointSlices out of Services and Pods: which endpoints there are, and what they say."""

from __future__ import annotations

from typing import Any

import pytest
from controller_objects import Object, ready
from endpoint_objects import ZONES, addresses, applied, backend, service, terminating

from tulle.apiserver.controllers.endpoint_of_pod import (
    addresses_of,
    endpoint_of,
    families_of,
    is_endpoint,
    ports_of,
)
from tulle.apiserver.controllers.endpointslice import MANAGER, plan
from tulle.apiserver.controllers.slices import Changes

SERVICE_NAME, MANAGED_BY = "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
UNREADY = {"conditions": ready("False")}
TWO = ("10.0.0.1", "fd00::1")


def of(owner: Object, *pods: Object, found: list[Object] | None = None, **more: Any) -> Changes:
    return plan(owner, list(pods), ZONES, found or [], **more)


def slices_of(owner: Object, *pods: Object) -> list[Object]:
    return of(owner, *pods).create


@pytest.mark.parametrize(
    ("case", "pod", "publish", "conditions"),
    [
        ("ready", backend("p1"), False, (True, True, False)),
        ("not ready", backend("p1", status=UNREADY), False, (False, False, False)),
        ("terminating, containers run", terminating(backend("p1")), False, (False, True, True)),
        ("terminating, not ready", terminating(backend("p1"), is_ready=False), False, (False, False, True)),
        ("S-35 not ready", backend("p1", status=UNREADY), True, (True, False, False)),
        ("S-35 terminating", terminating(backend("p1")), True, (True, True, True)),
        ("S-35 both", terminating(backend("p1"), is_ready=False), True, (True, False, True)),
        ("no condition yet", backend("p1", status={"conditions": []}), False, (False, False, False)),
    ],
)
def test_conditions(case: str, pod: Object, publish: bool, conditions: tuple[bool, ...]) -> None:
    [made] = slices_of(service(publishNotReadyAddresses=publish), pod)
    found = made["endpoints"][0]["conditions"]
    assert (found["ready"], found["serving"], found["terminating"]) == conditions, case


@pytest.mark.parametrize(
    ("case", "pod"),
    [
        ("N-24 failed", backend("p1", status={"phase": "Failed"})),
        ("N-24 evicted", backend("p1", status={"phase": "Failed", "reason": "Evicted"})),
        ("N-24 succeeded", backend("p1", status={"phase": "Succeeded"})),
        ("no address yet", backend("p1", status={"podIP": "", "podIPs": []})),
    ],
)
@pytest.mark.parametrize("publish", [False, True])
def test_what_is_no_endpoint(case: str, pod: Object, publish: bool) -> None:
    assert not is_endpoint(pod, terminating=True), case
    assert addresses(slices_of(service(publishNotReadyAddresses=publish), pod)) == []


def test_an_endpoint_says_where_and_who_it_is() -> None:
    pod = backend("p1", spec={"hostname": "db-0", "subdomain": "web"})
    [made] = slices_of(service(), pod)
    assert made["endpoints"] == [
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "hostname": "db-0",
            "nodeName": "n1",
            "zone": "east",
            "targetRef": {
                "kind": "Pod",
                "namespace": "default",
                "name": "p1",
                "uid": pod["metadata"]["uid"],
            },
        }
    ]


@pytest.mark.parametrize(
    ("spec", "hostname"),
    [
        ({"hostname": "db-0", "subdomain": "web"}, "db-0"),
        ({"hostname": "db-0", "subdomain": "other"}, None),
        ({"hostname": "db-0"}, None),
        ({"subdomain": "web"}, None),
    ],
)
def test_a_hostname_needs_the_services_subdomain(spec: Object, hostname: str | None) -> None:
    endpoint = endpoint_of(backend("p1", spec=spec), service(), "IPv4", ZONES)
    assert endpoint is not None
    assert endpoint.get("hostname") == hostname


@pytest.mark.parametrize(
    ("node", "publish", "zone"),
    [("n2", False, "west"), ("bare", False, None), ("unknown", False, "none"), ("unknown", True, None)],
)
def test_a_pod_on_a_node_that_does_not_exist_is_no_endpoint(
    node: str, publish: bool, zone: str | None
) -> None:
    owner = service(publishNotReadyAddresses=publish)
    endpoint = endpoint_of(backend("p1", node=node), owner, "IPv4", ZONES)
    assert ("none" if endpoint is None else endpoint.get("zone")) == zone


def test_pods_on_the_hosts_network_have_their_nodes_address() -> None:
    """S-37: two of them are two endpoints with one address."""
    pods = [backend(name, "192.0.2.1", spec={"hostNetwork": True}) for name in ("p1", "p2")]
    [made] = slices_of(service(), *pods)
    assert [each["targetRef"]["name"] for each in made["endpoints"]] == ["p1", "p2"]
    assert addresses([made]) == ["192.0.2.1", "192.0.2.1"]


@pytest.mark.parametrize(
    ("case", "given", "family", "found"),
    [
        ("both, the first", TWO, "IPv4", ["10.0.0.1"]),
        ("both, the second", TWO, "IPv6", ["fd00::1"]),
        ("not of this family", ("10.0.0.1",), "IPv6", []),
        ("canonical", ("fd00:0:0::0001",), "IPv6", ["fd00::1"]),
        ("no address at all", ("10.0.0.256",), "IPv4", []),
    ],
)
def test_addresses(case: str, given: tuple[str, ...], family: str, found: list[str]) -> None:
    assert addresses_of(backend("p1", *given), family) == found, case


@pytest.mark.parametrize(
    ("case", "spec", "pods", "families"),
    [
        ("as the API says", {"ipFamilies": ["IPv6", "IPv4"]}, [], ["IPv6", "IPv4"]),
        ("by the cluster IP", {"ipFamilies": [], "clusterIP": "fd00::7"}, [], ["IPv6"]),
        ("by the Pods", {"ipFamilies": [], "clusterIP": "None"}, [backend("p1", "fd00::1")], ["IPv6"]),
        ("by nothing", {"ipFamilies": [], "clusterIP": ""}, [], ["IPv4"]),
    ],
)
def test_families(case: str, spec: Object, pods: list[Object], families: list[str]) -> None:
    assert families_of(service(**spec), pods) == families, case


def port(target: int | str | None, name: str = "", protocol: str = "TCP", **more: Any) -> Object:
    target_port = {} if target is None else {"targetPort": target}
    return {"name": name, "port": 80, "protocol": protocol, **target_port, **more}


CONTAINERS = [
    {"name": "a", "ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]},
    {"name": "b", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"containerPort": 1}]},
]
SIDECARS = [
    {"name": "s", "restartPolicy": "Always", "ports": [{"name": "mesh", "containerPort": 15000}]},
    {"name": "i", "ports": [{"name": "init", "containerPort": 9}]},
]


@pytest.mark.parametrize(
    ("case", "ports", "numbers"),
    [
        ("a number", [port(8443)], [8443]),
        ("the Service's own", [port(None)], [80]),
        ("a name", [port("web")], [8080]),
        ("S-26 a name of the other protocol", [port("dns"), port("dns", "u", "UDP")], [53]),
        ("S-26 the same number twice", [port(53, "t"), port(53, "u", "UDP")], [53, 53]),
        ("N-25 a sidecar's", [port("mesh")], [15000]),
        ("N-25 not that of an init container", [port("init")], []),
        ("a name that the Pod does not have is left out", [port("gone"), port("web", "w")], [8080]),
    ],
)
def test_ports(case: str, ports: list[Object], numbers: list[int]) -> None:
    pod = backend("p1", spec={"containers": CONTAINERS, "initContainers": SIDECARS})
    assert [each["port"] for each in ports_of(service(ports=ports), pod)] == numbers, case


def test_ports_keep_name_protocol_and_app_protocol() -> None:
    owner = service(ports=[port(1, "a", appProtocol="kubernetes.io/h2c"), port(2, "b", "SCTP")])
    assert ports_of(owner, backend("p1")) == [
        {"name": "a", "protocol": "TCP", "port": 1, "appProtocol": "kubernetes.io/h2c"},
        {"name": "b", "protocol": "SCTP", "port": 2},
    ]


def test_pods_with_other_numbers_for_a_name_are_in_other_slices() -> None:
    """S-08"""
    old = {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 80}]}]}
    new = {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]}
    owner = service(ports=[port("web")])
    pods = [backend("p1", spec=old), backend("p2", spec=new), backend("p3", spec=old)]
    found = {each["ports"][0]["port"]: addresses([each]) for each in slices_of(owner, *pods)}
    assert found == {80: ["10.0.0.1", "10.0.0.3"], 8080: ["10.0.0.2"]}


def test_a_slice_is_labelled_like_its_service() -> None:
    owner = service(labels={"team": "a", MANAGED_BY: "mine", SERVICE_NAME: "mine", HEADLESS: "mine"})
    [made] = slices_of(owner, backend("p1"))
    assert made["metadata"]["labels"] == {"team": "a", SERVICE_NAME: "web", MANAGED_BY: MANAGER}
    assert made["metadata"]["generateName"] == "web-"
    [reference] = made["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["uid"]) == ("Service", owner["metadata"]["uid"])
    assert reference["controller"]


def test_a_headless_service_has_slices_that_say_so() -> None:
    """S-03"""
    made = slices_of(service(clusterIP="None", ipFamilies=["IPv4", "IPv6"], ports=[]), backend("p1", *TWO))
    assert [each["metadata"]["labels"][HEADLESS] for each in made] == ["", ""]
    assert [(each["addressType"], each["ports"], addresses([each])) for each in made] == [
        ("IPv4", [], ["10.0.0.1"]),
        ("IPv6", [], ["fd00::1"]),
    ]


def test_each_family_without_endpoints_has_a_placeholder() -> None:
    made = slices_of(service(ipFamilies=["IPv4", "IPv6"]), backend("p1"))
    assert [(each["addressType"], len(each["endpoints"]), len(each["ports"])) for each in made] == [
        ("IPv4", 1, 1),
        ("IPv6", 0, 0),
    ]


@pytest.mark.parametrize(
    ("distribution", "pod", "hints"),
    [
        (None, backend("p1"), None),
        ("PreferSameZone", backend("p1"), {"forZones": [{"name": "east"}]}),
        ("PreferClose", backend("p1"), {"forZones": [{"name": "east"}]}),
        ("PreferSameNode", backend("p1"), {"forZones": [{"name": "east"}], "forNodes": [{"name": "n1"}]}),
        ("PreferSameZone", backend("p1", node="bare"), None),
        ("PreferSameNode", backend("p1", node="bare"), {"forNodes": [{"name": "bare"}]}),
        ("PreferSameZone", backend("p1", status=UNREADY), None),
        ("PreferSameNode", terminating(backend("p1")), None),
        ("Unheard-of", backend("p1"), None),
    ],
)
def test_s_32_hints(distribution: str | None, pod: Object, hints: Object | None) -> None:
    [made] = slices_of(service(trafficDistribution=distribution), pod)
    assert made["endpoints"][0].get("hints") == hints


def test_hints_come_and_go_with_the_field() -> None:
    owner, pod = service(), backend("p1")
    found = applied([], of(owner, pod))
    owner["spec"]["trafficDistribution"] = "PreferSameZone"
    found = applied(found, of(owner, pod, found=found))
    assert "hints" in found[0]["endpoints"][0]
    del owner["spec"]["trafficDistribution"]
    [changed] = of(owner, pod, found=found).update
    assert "hints" not in changed["endpoints"][0]


@pytest.mark.parametrize(
    "spec", [{"selector": {}}, {"selector": None}, {"type": "ExternalName", "externalName": "a.example"}]
)
def test_a_service_that_selects_no_pods_has_no_slices(spec: Object) -> None:
    owner = service()
    found = applied([], of(owner, backend("p1")))
    owner["spec"] |= spec
    assert of(owner, found=found) == Changes(delete=found)
    assert not of(owner)
