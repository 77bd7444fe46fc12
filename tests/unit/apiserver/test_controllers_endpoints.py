"""EndpointSlices out of Services and Pods: which endpoints there are, and in which slices."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from controller_objects import Object, owned_by, ready
from endpoint_objects import ZONES, addresses, applied, backend, service, terminating
from hypothesis import given
from hypothesis import strategies as st

from tulle.apiserver.controllers.endpoint_of_pod import (
    addresses_of,
    endpoint_of,
    families_of,
    is_endpoint,
    ports_of,
)
from tulle.apiserver.controllers.endpointslice import MANAGER, plan, stamped
from tulle.apiserver.controllers.slices import Changes, Part, fit

SERVICE_NAME, MANAGED_BY = "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
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


def many(number: int, start: int = 1) -> list[Object]:
    return [backend(f"p{i}", f"10.0.{i // 200}.{i % 200}") for i in range(start, start + number)]


def sizes(slices: list[Object]) -> list[int]:
    return sorted(len(each["endpoints"]) for each in slices)


def test_a_hundred_endpoints_fill_a_slice() -> None:
    assert sizes(slices_of(service(), *many(100))) == [100]
    assert sizes(slices_of(service(), *many(101))) == [1, 100]
    assert sizes(slices_of(service(), *many(250))) == [50, 100, 100]


def test_what_needs_no_change_is_left_alone() -> None:
    owner, pods = service(), many(150)
    found = applied([], of(owner, *pods))
    assert not of(owner, *pods, found=found)
    assert not of(owner, *reversed(pods), found=[stamped(each, "2026-05-01T12:00:00Z") for each in found])


def test_one_pod_changes_one_slice() -> None:
    owner, pods = service(), many(150)
    found = applied([], of(owner, *pods))
    pods[120] = {**pods[120], "status": {**pods[120]["status"], **UNREADY}}
    changes = of(owner, *pods, found=found)
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 1, 0)
    assert sizes(changes.update) == [50]
    assert changes.update[0]["endpoints"][20]["conditions"]["ready"] is False


@pytest.mark.parametrize(
    ("case", "gone", "more", "writes", "after"),
    [
        ("a new one goes where there is room", 0, 1, (0, 1, 0), [51, 100]),
        ("as many as fit into one slice", 0, 50, (0, 1, 0), [100, 100]),
        ("more than fit make a slice", 0, 51, (1, 0, 0), [50, 51, 100]),
        ("new ones take the places of old ones", 10, 10, (0, 1, 0), [50, 100]),
        ("they fill what changes first, then one that does not", 10, 20, (0, 2, 0), [60, 100]),
        ("a slice that is emptied is taken away", 100, 0, (0, 0, 1), [50]),
        ("or used again", 100, 60, (0, 1, 0), [50, 60]),
    ],
)
def test_changes_are_as_few_as_they_can_be(
    case: str, gone: int, more: int, writes: tuple[int, int, int], after: list[int]
) -> None:
    owner, pods = service(), many(150)
    found = applied([], of(owner, *pods))
    changes = of(owner, *pods[gone:], *many(more, start=200), found=found)
    assert (len(changes.create), len(changes.update), len(changes.delete)) == writes, case
    assert sizes(applied(found, changes)) == after, case


@pytest.mark.parametrize(
    ("case", "kept", "gone", "new", "after"),
    [
        ("the fullest with room for all", (6, 3, 8), 0, 3, [9, 3, 8]),
        ("the fullest of those that change", (6, 7), 1, 5, [6, 10]),
        ("none has room for all", (6, 7), 0, 5, [6, 7, 5]),
        ("whole slices first, the rest where there is room", (6,), 0, 12, [8, 10]),
    ],
)
def test_where_new_endpoints_go(
    case: str, kept: tuple[int, ...], gone: int, new: int, after: list[int]
) -> None:
    """Of slices for up to ten that hold ``kept``, each loses ``gone``."""
    names = count()
    found = [{"endpoints": [endpoint(next(names)) for _ in range(size)]} for size in kept]
    wanted = [each for slice_ in found for each in slice_["endpoints"][gone:]]
    wanted += [endpoint(next(names)) for _ in range(new)]
    placed = fit(Part([], wanted), found, 10)
    sizes = {id(there): len(endpoints) for there, endpoints in placed if there}
    made = [len(endpoints) for there, endpoints in placed if there is None]
    assert [sizes[id(each)] for each in found] + made == after, case


def endpoint(number: int) -> Object:
    return {"addresses": [f"10.0.0.{number}"]}


def test_a_slice_is_never_used_again_for_the_other_family() -> None:
    owner, pod = service(), backend("p1", *TWO)
    found = applied([], of(owner, pod))
    owner["spec"]["ipFamilies"] = ["IPv6"]
    changes = of(owner, pod, found=found)
    assert (len(changes.create), changes.update, changes.delete) == (1, [], found)


def test_the_placeholder_becomes_the_first_slice_and_the_last_one_a_placeholder() -> None:
    owner = service()
    found = applied([], of(owner))
    name = found[0]["metadata"]["name"]
    found = applied(found, of(owner, backend("p1"), found=found))
    assert [(each["metadata"]["name"], len(each["ports"])) for each in found] == [(name, 1)]
    found = applied(found, of(owner, found=found))
    assert [(each["metadata"]["name"], each["ports"], each["endpoints"]) for each in found] == [
        (name, [], [])
    ]
    assert not of(owner, found=found)


def test_a_new_port_changes_slices_in_place() -> None:
    owner, pods = service(), many(150)
    found = applied([], of(owner, *pods))
    owner["spec"]["ports"] = [port(9090, "http")]
    changes = of(owner, *pods, found=found)
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 2, 0)
    assert {each["ports"][0]["port"] for each in changes.update} == {9090}


def test_ports_in_another_order_are_no_change() -> None:
    owner, pod = service(ports=[port(1, "a"), port(2, "b")]), backend("p1")
    found = applied([], of(owner, pod))
    owner["spec"]["ports"].reverse()
    assert not of(owner, pod, found=found)


def test_labels_of_the_service_are_followed_and_annotations_of_the_slice_kept() -> None:
    owner, pod = service(labels={"team": "a"}), backend("p1")
    [made] = applied([], of(owner, pod))
    made["metadata"]["annotations"] = {"mine": "yes", TRIGGER_TIME: "2026-05-01T12:00:00Z"}
    owner["metadata"]["labels"] = {"team": "b"}
    [changed] = of(owner, pod, found=[made]).update
    assert changed["metadata"]["labels"]["team"] == "b"
    assert changed["metadata"]["annotations"] == {"mine": "yes"}
    assert stamped(changed, "now")["metadata"]["annotations"] == {"mine": "yes", TRIGGER_TIME: "now"}


def test_a_family_less_takes_its_slices_away() -> None:
    owner, pod = service(ipFamilies=["IPv4", "IPv6"]), backend("p1", *TWO)
    found = applied([], of(owner, pod))
    owner["spec"]["ipFamilies"] = ["IPv4"]
    changes = of(owner, pod, found=found)
    assert [each["addressType"] for each in changes.delete] == ["IPv6"]
    assert not changes.create
    assert not changes.update


def test_slices_of_an_earlier_service_with_the_name_are_replaced() -> None:
    owner, pod = service(), backend("p1")
    [made] = applied([], of(owner, pod))
    made["metadata"]["ownerReferences"] = owned_by(service(), "Service")
    changes = of(owner, pod, found=[made])
    assert (len(changes.create), changes.update, changes.delete) == (1, [], [made])


def test_a_service_that_is_being_deleted_gets_no_new_slices() -> None:
    owner = service(deletionTimestamp="2026-05-01T12:00:00Z")
    assert not of(owner, backend("p1"))


def test_an_endpoint_that_is_in_two_slices_is_taken_out_of_one() -> None:
    owner, pod = service(), backend("p1")
    [made] = applied([], of(owner, pod))
    twin = {**made, "metadata": {**made["metadata"], "name": "web-zzzzz"}}
    assert of(owner, pod, found=[twin, made]) == Changes(delete=[twin])


@given(st.lists(st.sets(st.integers(1, 12)), min_size=1, max_size=8), st.integers(1, 5))
def test_whatever_comes_and_goes_each_pod_is_in_one_slice_once(steps: list[set[int]], limit: int) -> None:
    """From any state one plan leads to the right slices, after which there is nothing to do."""
    owner, found = service(), []
    for numbers in steps:
        pods = [backend(f"p{number}") for number in sorted(numbers)]
        found = applied(found, of(owner, *pods, found=found, limit=limit))
        assert addresses(found) == sorted(f"10.0.0.{number}" for number in numbers)
        assert all(len(each["endpoints"]) <= limit for each in found)
        assert len(found) == 1 or all(each["endpoints"] for each in found)
        again = [{**pod, "metadata": {**pod["metadata"], "resourceVersion": "9"}} for pod in pods]
        assert not of(owner, *again, found=found, limit=limit)
