"""Which Services verify makes, what it reads of the API, and whom it asks how often."""

from __future__ import annotations

import math

import msgspec
import pytest
from networks import PLACES
from service_world import ENDPOINTS, FACTS, PODS

from tulle.model.services import EndpointSlice, Service
from tulle.verify.manifests import Image, pod, wanted
from tulle.verify.plan import Place
from tulle.verify.service_judge import listed, refused
from tulle.verify.service_plan import ServiceCheck, plan, tries_for
from tulle.verify.services import (
    ALL,
    EMPTY,
    HEADLESS,
    SELECTING,
    STICKY,
    Facts,
    Listed,
    external,
    facts,
    manifests,
)
from tulle.verify.statements import FAMILIES

SERVICES = {body["metadata"]["name"]: body["spec"] for body in manifests()}


def test_the_set() -> None:
    assert set(SERVICES) == {*SELECTING, EMPTY}
    assert {spec["ipFamilyPolicy"] for spec in SERVICES.values()} == {"PreferDualStack"}
    protocols = {(p["port"], p["protocol"]) for p in SERVICES[ALL]["ports"]}
    assert protocols == {(80, "TCP"), (80, "UDP"), (8080, "TCP")}
    assert SERVICES[STICKY]["sessionAffinity"] == "ClientIP"
    assert SERVICES[HEADLESS]["clusterIP"] == "None"
    assert external("x.test")["spec"] == {"type": "ExternalName", "externalName": "x.test"}


def test_services_select_pods_and_not_those_on_the_host_network() -> None:
    made = {want.pod: pod(want, Image("i", "python3")) for want in wanted(["x"], 23_456, 23_457)}
    labels = {name: body["metadata"]["labels"] for name, body in made.items()}
    for name in SELECTING:
        chosen = {p for p, own in labels.items() if SERVICES[name]["selector"].items() <= own.items()}
        assert chosen == {"a-1", "b-1"}
    assert not any(SERVICES[EMPTY]["selector"].items() <= own.items() for own in labels.values())
    ports = {name: body["spec"]["containers"][0]["ports"] for name, body in made.items()}
    assert ports["b-1"] == [{"name": "main", "containerPort": 8099}]
    assert ports["host-1"] == []
    assert [(p["name"], p.get("protocol"), p["hostPort"]) for p in ports["a-1"]] == [
        ("main", None, 23_457),
        ("main-udp", "UDP", 23_457),
    ]


def test_one_pod_of_each_node_has_its_services_in_packets() -> None:
    wants = wanted(["x", "y"], 23_456, 23_457)
    assert [want.pod for want in wants if want.packets] == ["b-1", "b-2"]
    said = pod(wants[1], Image("i", "python3"))["metadata"]["annotations"]
    assert said == {"tulle.dev/socket-services": "false"}


def test_d24_the_host_network_uses_the_cluster_dns_too() -> None:
    policies = [pod(w, Image("i", "python3"))["spec"]["dnsPolicy"] for w in wanted(["x"], 23_456, 23_457)]
    assert policies == ["ClusterFirst", "ClusterFirst", "ClusterFirstWithHostNet"]


def slice_of(
    service: str | None, name: str, kind: str, ports: list[str], *endpoints: dict[str, object]
) -> EndpointSlice:
    labels = {"kubernetes.io/service-name": service} if service else {}
    body = {
        "metadata": {"name": name, "labels": labels},
        "addressType": kind,
        "endpoints": endpoints,
        "ports": [{"name": port, "port": 1} for port in ports],
    }
    return msgspec.convert(body, EndpointSlice)


def test_what_the_api_says() -> None:
    """S-04, S-05, S-09 and S-10."""
    service = msgspec.convert(
        {"metadata": {"name": ALL}, "spec": {"clusterIPs": ["10.96.0.1", "fd00::1"]}}, Service
    )
    headless = msgspec.convert({"metadata": {"name": HEADLESS}, "spec": {"clusterIPs": ["None"]}}, Service)
    known = facts(
        [service, headless],
        [
            slice_of(
                ALL, "s-1", "IPv4", ["main"], {"addresses": ["10.0.0.1"], "nodeName": "n", "hostname": "h"}
            ),
            slice_of(ALL, "s-2", "IPv4", ["datagrams"], {"addresses": ["10.0.0.1"]}),
            slice_of(
                ALL,
                "s-3",
                "IPv4",
                [],
                {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
                {"addresses": []},
            ),
            slice_of(ALL, "s-4", "FQDN", [], {"addresses": ["a.test"]}),
            slice_of(None, "s-5", "IPv4", [], {"addresses": ["10.0.0.3"]}),
        ],
    )
    assert known.addresses == {ALL: {"IPv4": "10.96.0.1", "IPv6": "fd00::1"}, HEADLESS: {}}
    one = Listed("IPv4", "10.0.0.1", "n", "h", "s-1", frozenset({"main", "datagrams"}))
    assert known.endpoints == {ALL: (one,)}
    assert (known.listed(ALL, "IPv4", "main"), known.listed(ALL, "IPv4", "x")) == ((one,), ())
    assert known.listed(ALL, "IPv6") == known.listed(HEADLESS, "IPv4") == ()


def test_every_place_asks_every_service_in_both_families() -> None:
    made = {(c.source, c.service, c.port, c.family, c.transport) for c in plan(PLACES, FAMILIES, FACTS)}
    ways = [(f, t) for f in FAMILIES for t in ("tcp", "udp")]
    ports = [("all", 80), ("all", 81), ("sticky", 80), ("local", 80), ("empty", 80)]
    assert {(p, s, port, f, t) for p in PLACES for s, port in ports for f, t in ways} <= made
    assert {f for *_, s, port, f, _ in made if (s, port) == ("all", 8080)} == set(FAMILIES)


def of(source: Place, service: str, facts: Facts = FACTS) -> ServiceCheck:
    return next(c for c in plan([*PLACES], ("IPv4",), facts) if (c.source, c.service) == (source, service))


def test_whom_a_service_leads_to() -> None:
    assert of(PLACES[0], "all").wanted == {place.pod for place in PODS}
    assert of(PLACES[0], "local").wanted == of(PLACES[2], "local").wanted == {"a-1", "b-1"}
    nobody = Listed("IPv4", "10.9.9.9", "n1", "", "by-hand", frozenset({"main"}))
    more = Facts(FACTS.addresses, {**FACTS.endpoints, ALL: (*ENDPOINTS, nobody)})
    checks = [c for c in plan(PLACES, ("IPv4",), more) if c.purpose == "spread"]
    assert {(c.transport, "10.9.9.9" in c.wanted) for c in checks} == {("tcp", True), ("udp", False)}


def test_only_families_that_client_and_service_have() -> None:
    single = Facts({ALL: {"IPv4": "10.96.0.1"}}, {ALL: ENDPOINTS})
    assert {c.family for c in plan(PLACES, FAMILIES, single)} == {"IPv4"}
    six = Place("x", "n1", "a", 1, ("fd00::1",))
    assert plan([six], FAMILIES, single) == []


@pytest.mark.parametrize("endpoints", [1, 2, 6, 200])
def test_no_endpoint_is_missed_by_chance(endpoints: int) -> None:
    assert endpoints * (1 - 1 / endpoints) ** tries_for(endpoints) < math.exp(-13.9)
    assert tries_for(0) == 1


def test_the_slices_list_just_the_ready_pods() -> None:
    """Also of the headless Service, which has no address."""
    rows = list(listed(FACTS, PODS, FAMILIES))
    assert {(row.source, row.ok, row.seen) for row in rows} == {
        (f"Service {name}", True, "6 endpoints") for name in SELECTING
    }


def test_slices_that_list_too_many_or_too_few() -> None:
    known = Facts({ALL: FACTS.addresses[ALL]}, {ALL: ENDPOINTS})
    (row, _) = listed(known, PODS[1:], FAMILIES)
    assert (row.ok, row.seen) == (False, "10.244.1.2, which no ready Pod has, in s-1")
    assert row.hop == "the API: EndpointSlice s-1"
    (row, _) = listed(Facts(known.addresses, {ALL: ENDPOINTS[2:]}), PODS, FAMILIES)
    assert (row.ok, row.seen) == (False, "n1/a is not listed")
    assert row.hop == "the API: no slice lists them"


def test_a_service_that_the_api_does_not_take() -> None:
    row = refused(ALL, "no addresses left")
    assert (row.ok, row.source, row.seen, row.hop) == (False, "Service all", "no addresses left", "the API")
