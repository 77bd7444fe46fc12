"""Endpoints, the older form, and the slices that mirror those that somebody made."""

from __future__ import annotations

from typing import Any

import pytest
from controller_objects import Object, metadata, ready
from endpoint_objects import addresses, applied, backend, service, terminating

from tulle.apiserver.controllers.endpoints import MANAGER, plan
from tulle.apiserver.controllers.mirroring import MANAGER as MIRRORER
from tulle.apiserver.controllers.mirroring import plan as mirror
from tulle.apiserver.controllers.slices import Changes
from tulle.apiserver.controllers.subsets import offers, subsets, truncated

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
UNREADY = {"conditions": ready("False")}
HTTP = {"name": "http", "port": 8080, "protocol": "TCP"}
SELECTORLESS = service(selector={})


def made_of(owner: Object, *pods: Object) -> Object:
    made = plan(owner, list(pods), None, None)
    assert made is not None
    return made


def ips(subset: Object) -> tuple[list[str], list[str]]:
    """Of ready addresses, and of others."""
    ready_ones, others = subset.get("addresses", []), subset.get("notReadyAddresses", [])
    return [each["ip"] for each in ready_ones], [each["ip"] for each in others]


@pytest.mark.parametrize(
    ("case", "pod", "publish", "found"),
    [
        ("ready", backend("p1"), False, (["10.0.0.1"], [])),
        ("not ready", backend("p1", status=UNREADY), False, ([], ["10.0.0.1"])),
        ("S-35 not ready", backend("p1", status=UNREADY), True, (["10.0.0.1"], [])),
        ("terminating", terminating(backend("p1")), False, None),
        ("S-35 terminating", terminating(backend("p1")), True, (["10.0.0.1"], [])),
        ("N-24 failed", backend("p1", status={"phase": "Failed"}), True, None),
        ("no address", backend("p1", status={"podIP": "", "podIPs": []}), False, None),
        ("the other family", backend("p1", "fd00::1"), False, None),
    ],
)
def test_addresses_of_endpoints(
    case: str, pod: Object, publish: bool, found: tuple[list[str], list[str]] | None
) -> None:
    made = made_of(service(publishNotReadyAddresses=publish), pod)["subsets"]
    assert [ips(each) for each in made] == ([found] if found else []), case


def test_endpoints_look_as_in_kubernetes() -> None:
    owner = service(labels={"team": "a", HEADLESS: "mine"})
    pod = backend("p1", "10.0.0.1", "fd00::1", spec={"hostname": "db-0", "subdomain": "web"})
    made = plan(owner, [pod], None, "2026-05-01T12:00:00Z")
    target = {"kind": "Pod", "namespace": "default", "name": "p1", "uid": pod["metadata"]["uid"]}
    assert made == {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "web",
            "namespace": "default",
            "labels": {"team": "a", MANAGED_BY: MANAGER},
            "annotations": {TRIGGER_TIME: "2026-05-01T12:00:00Z"},
        },
        "subsets": [
            {
                "addresses": [{"ip": "10.0.0.1", "hostname": "db-0", "nodeName": "n1", "targetRef": target}],
                "ports": [HTTP],
            }
        ],
    }


def test_a_headless_service_without_ports_has_addresses_without_ports() -> None:
    made = made_of(service(clusterIP="None", ports=[]), backend("p1"))
    assert HEADLESS in made["metadata"]["labels"]
    assert [(ips(each), "ports" in each) for each in made["subsets"]] == [((["10.0.0.1"], []), False)]
    assert made_of(service(ports=[]), backend("p1"))["subsets"] == []


def test_endpoints_are_of_the_first_family() -> None:
    made = made_of(service(ipFamilies=["IPv6", "IPv4"]), backend("p1", "10.0.0.1", "fd00::1"))
    assert ips(made["subsets"][0]) == (["fd00::1"], [])


def test_pods_with_other_numbers_are_in_other_subsets() -> None:
    """S-08"""
    owner = service(
        ports=[{"name": "a", "port": 1, "targetPort": "web"}, {"name": "b", "port": 2, "targetPort": 9}]
    )
    for pod, number in (pods := [(backend("p1"), 80), (backend("p2"), 8080)]):
        pod["spec"]["containers"] = [{"name": "c", "ports": [{"name": "web", "containerPort": number}]}]
    found = [
        (ips(each)[0], [port["port"] for port in each["ports"]])
        for each in made_of(owner, *(pod for pod, _ in pods))["subsets"]
    ]
    assert found == [
        (["10.0.0.1"], [80]),
        (["10.0.0.2"], [8080]),
        (["10.0.0.1", "10.0.0.2"], [9]),
    ]


def test_endpoints_that_are_right_are_left_alone() -> None:
    owner, pods = service(), [backend("p1"), backend("p2", status=UNREADY)]
    found = made_of(owner, *pods)
    assert plan(owner, pods[::-1], found, "2026-05-01T12:00:00Z") is None
    pods[1] = backend("p2")
    changed = plan(owner, pods, found, None)
    assert changed is not None
    assert [ips(each) for each in changed["subsets"]] == [(["10.0.0.1", "10.0.0.2"], [])]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", {"team": "b"}),
        ("annotations", {OVER_CAPACITY: "truncated"}),
    ],
)
def test_endpoints_that_somebody_changed_are_put_right(key: str, value: Object) -> None:
    owner, pod = service(labels={"team": "a"}), backend("p1")
    found = made_of(owner, pod)
    wrong = {**found, "metadata": {**found["metadata"], key: value, "resourceVersion": "7"}}
    assert plan(owner, [pod], wrong, None) == {
        **found,
        "metadata": {**found["metadata"], "resourceVersion": "7"},
    }


def test_annotations_of_others_stay_and_an_old_time_goes() -> None:
    owner = service()
    found = made_of(owner)
    found["metadata"]["annotations"] = {"mine": "yes", TRIGGER_TIME: "2026-05-01T12:00:00Z"}
    changed = plan(owner, [backend("p1")], found, None)
    assert changed is not None
    assert changed["metadata"]["annotations"] == {"mine": "yes"}


def test_a_service_that_is_being_deleted_gets_no_new_endpoints() -> None:
    assert plan(service(deletionTimestamp="2026-05-01T12:00:00Z"), [], None, None) is None


def test_more_than_a_thousand_addresses_are_cut_and_said_to_be() -> None:
    pods = [backend(f"p{i}", f"10.0.{i // 200}.{i % 200}") for i in range(1, 1101)]
    owner = service()
    made = made_of(owner, *pods)
    assert sum(len(each["addresses"]) for each in made["subsets"]) == 1000
    assert made["metadata"]["annotations"] == {OVER_CAPACITY: "truncated"}
    assert plan(owner, pods, made, None) is None
    changed = plan(owner, pods[:1000], made, None)
    assert changed is not None
    assert changed["metadata"]["annotations"] == {}


def some(ready_ones: int, others: int, port: int) -> Object:
    """A subset of that many addresses."""
    lists = {"addresses": ready_ones, "notReadyAddresses": others}
    listed = {key: [{"ip": f"{key}-{port}-{i}"} for i in range(n)] for key, n in lists.items() if n}
    return {**listed, "ports": [{"name": "", "port": port, "protocol": "TCP"}]}


@pytest.mark.parametrize(
    ("case", "given", "sizes"),
    [
        ("all fit", [(5, 5)], [(5, 5)]),
        ("those that are not ready are cut", [(8, 4)], [(8, 2)]),
        ("all of those go before a ready one", [(12, 4)], [(10, 0)]),
        ("each subset by its share", [(15, 0), (5, 3)], [(8, 0), (2, 0)]),
        ("shares of those that are not ready", [(4, 6), (2, 6)], [(4, 2), (2, 2)]),
        ("a subset that is left nothing goes", [(10, 0), (0, 3)], [(10, 0)]),
    ],
)
def test_truncation(case: str, given: list[tuple[int, int]], sizes: list[tuple[int, int]]) -> None:
    found = truncated([some(*numbers, port) for port, numbers in enumerate(given, 1)], limit=10)
    assert [tuple(map(len, ips(each))) for each in found] == sizes, case


@pytest.mark.parametrize(
    ("case", "given", "packed"),
    [
        (
            "the same addresses at two ports",
            [(["a", "b"], [], [1]), (["b", "a"], [], [2])],
            [(["a", "b"], [], [1, 2])],
        ),
        ("the same port twice", [(["b"], [], [1]), (["a"], [], [1])], [(["a", "b"], [], [1])]),
        ("not ready counts for more", [(["a"], [], [1]), ([], ["a"], [1])], [([], ["a"], [1])]),
        (
            "ready for one port only",
            [(["a"], [], [1]), ([], ["a"], [2])],
            [(["a"], [], [1]), ([], ["a"], [2])],
        ),
        ("without ports", [(["a"], [], [])], [(["a"], [], [])]),
    ],
)
def test_packing(case: str, given: list[Any], packed: list[Any]) -> None:
    assert subsets(offers(custom(*given)["subsets"])) == custom(*packed)["subsets"], case


def custom(*given: tuple[list[str], list[str], list[int]], **meta: Any) -> Object:
    """Endpoints with (addresses, addresses that are not ready, ports) for each subset."""
    made = []
    for ready_ones, others, ports in given:
        lists = {
            "addresses": [{"ip": ip} for ip in ready_ones],
            "notReadyAddresses": [{"ip": ip} for ip in others],
            "ports": [{"name": f"p{port}", "port": port, "protocol": "TCP"} for port in ports],
        }
        made.append({key: each for key, each in lists.items() if each})
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata("web", **meta), "subsets": made}


def test_a_mirror_has_a_slice_for_each_family_and_set_of_ports() -> None:
    given = custom((["192.0.2.1", "fd00::1"], ["192.0.2.2"], [80]), (["192.0.2.3"], [], [81]))
    made = mirror(given, SELECTORLESS, []).changes.create
    assert [(each["addressType"], each["ports"][0]["port"], addresses([each])) for each in made] == [
        ("IPv4", 80, ["192.0.2.1", "192.0.2.2"]),
        ("IPv6", 80, ["fd00::1"]),
        ("IPv4", 81, ["192.0.2.3"]),
    ]
    assert [each["conditions"] for each in made[0]["endpoints"]] == [{"ready": True}, {"ready": False}]


def test_a_mirror_looks_as_in_kubernetes() -> None:
    annotations = {
        "mine": "yes",
        TRIGGER_TIME: "2026-05-01T12:00:00Z",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    given = custom((["192.0.2.1"], [], [80]), labels={"team": "a"}, annotations=annotations)
    more = {"hostname": "db", "nodeName": "n1", "targetRef": {"kind": "Machine", "name": "m"}}
    given["subsets"][0]["addresses"][0] |= more
    [made] = mirror(given, SELECTORLESS, []).changes.create
    assert made["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": MIRRORER,
    }
    assert made["metadata"]["annotations"] == {"mine": "yes"}
    assert made["metadata"]["generateName"] == "web-"
    owner = made["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"]) == ("Endpoints", given["metadata"]["uid"])
    assert made["endpoints"] == [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}, **more}]
    assert made["ports"] == [{"name": "p80", "protocol": "TCP", "port": 80}]


@pytest.mark.parametrize(
    ("case", "endpoints", "owner"),
    [
        ("the Service selects Pods", custom((["192.0.2.1"], [], [80])), service()),
        ("there is no Service", custom((["192.0.2.1"], [], [80])), None),
        ("the Endpoints are gone", None, SELECTORLESS),
        (
            "they are not to be mirrored",
            custom((["192.0.2.1"], [], [80]), labels={"endpointslice.kubernetes.io/skip-mirror": "true"}),
            SELECTORLESS,
        ),
        (
            "they are the record of a leader",
            custom((["192.0.2.1"], [], [80]), annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}),
            SELECTORLESS,
        ),
        (
            "they were made out of Pods",
            custom((["192.0.2.1"], [], [80]), labels={MANAGED_BY: MANAGER}),
            SELECTORLESS,
        ),
    ],
)
def test_what_is_not_mirrored(case: str, endpoints: Object | None, owner: Object | None) -> None:
    found = applied([], mirror(custom((["192.0.2.1"], [], [80])), SELECTORLESS, []).changes)
    assert mirror(endpoints, owner, []).changes == Changes(), case
    assert mirror(endpoints, owner, found).changes == Changes(delete=found), case


def test_another_value_of_skip_mirror_means_nothing() -> None:
    given = custom((["192.0.2.1"], [], [80]), labels={"endpointslice.kubernetes.io/skip-mirror": "false"})
    assert mirror(given, SELECTORLESS, []).changes.create


def test_a_mirror_that_is_right_is_left_alone() -> None:
    given = custom((["192.0.2.1", "fd00::1"], [], [80]), labels={"team": "a"}, annotations={"mine": "yes"})
    found = applied([], mirror(given, SELECTORLESS, []).changes)
    assert not mirror(given, SELECTORLESS, found).changes


@pytest.mark.parametrize(
    ("case", "changed"),
    [
        ("an address", custom((["192.0.2.2"], [], [80]))),
        ("readiness", custom(([], ["192.0.2.1"], [80]))),
        ("a port", custom((["192.0.2.1"], [], [81]))),
        ("a label", custom((["192.0.2.1"], [], [80]), labels={"team": "b"})),
        ("an annotation", custom((["192.0.2.1"], [], [80]), annotations={"mine": "no"})),
    ],
)
def test_a_mirror_follows_in_place(case: str, changed: Object) -> None:
    given = custom((["192.0.2.1"], [], [80]))
    found = applied([], mirror(given, SELECTORLESS, []).changes)
    changed = {**changed, "metadata": {**changed["metadata"], "uid": given["metadata"]["uid"]}}
    changes = mirror(changed, SELECTORLESS, found).changes
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 1, 0), case
    assert not mirror(changed, SELECTORLESS, applied(found, changes)).changes


def test_endpoints_that_are_emptied_have_no_mirror() -> None:
    given = custom((["192.0.2.1"], [], [80]))
    found = applied([], mirror(given, SELECTORLESS, []).changes)
    assert mirror({**given, "subsets": None}, SELECTORLESS, found).changes == Changes(delete=found)


def test_bad_and_too_many_addresses_are_left_out_and_told() -> None:
    given = custom((["192.0.2.1", "nonsense", "192.0.2.2"], ["192.0.2.3"], [80]))
    found = mirror(given, SELECTORLESS, [], limit=2)
    assert addresses(found.changes.create) == ["192.0.2.1", "192.0.2.2"]
    assert found.warnings == [
        ("InvalidIPAddress", "Skipped 1 invalid IP addresses when mirroring to EndpointSlices"),
        (
            "TooManyAddressesToMirror",
            "A max of 2 addresses can be mirrored to EndpointSlices per Endpoints subset. "
            "1 addresses were skipped",
        ),
    ]


def test_a_thousand_addresses_of_a_subset_are_mirrored_in_one_slice() -> None:
    given = custom(([f"192.0.{i // 200}.{i % 200}" for i in range(1, 1101)], [], [80]))
    found = mirror(given, SELECTORLESS, [])
    assert [len(each["endpoints"]) for each in found.changes.create] == [1000]
    assert [reason for reason, _ in found.warnings] == ["TooManyAddressesToMirror"]


def test_one_address_for_two_targets_is_two_endpoints() -> None:
    given = custom((["192.0.2.1", "192.0.2.1"], [], [80]))
    for name, address in zip("ab", given["subsets"][0]["addresses"], strict=True):
        address["targetRef"] = {"kind": "Pod", "name": name, "uid": name}
    [made] = mirror(given, SELECTORLESS, []).changes.create
    assert [each["targetRef"]["name"] for each in made["endpoints"]] == ["a", "b"]
