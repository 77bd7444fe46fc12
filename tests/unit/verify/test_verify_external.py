"""Clients from outside: what verify makes, whom it asks where, and what the answers mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from networks import NODE_ADDRESSES, NODES, PLACES, Network, lost, well
from outside_world import GATES, GROUND, WORLD, World, all_well, broken, found, unanswered
from service_world import WHO

from tulle.verify import external_run
from tulle.verify.external import (
    ANNOUNCED,
    CLOSED,
    GUARDED,
    ONE,
    OPEN,
    Gate,
    balanced_at,
    gates,
    is_balanced_by_us,
    manifests,
    manifests_about,
)
from tulle.verify.external_judge import findings
from tulle.verify.external_plan import HOST_PORT, ExternalCheck, plan
from tulle.verify.findings import Finding, Trouble
from tulle.verify.judge import Answer
from tulle.verify.plan import Check as PathCheck
from tulle.verify.plan import Place
from tulle.verify.pods import primary_addresses
from tulle.verify.statements import STATEMENTS

POD, OTHER, HOST = PLACES[:3]
CHECKS = plan(GROUND)
STATEMENTS_OF_ALL = {f.statement for f in found(all_well)}


def test_the_services() -> None:
    made = {body["metadata"]["name"]: body["spec"] for body in manifests(outside=True)}
    assert set(made) - {body["metadata"]["name"] for body in manifests(outside=False)} == {ANNOUNCED}
    assert "loadBalancerClass" not in made[ANNOUNCED]
    about = {b["metadata"]["name"]: b["spec"] for b in manifests_about(POD, ["10.0.0.1/32"])}
    assert about[ONE]["externalTrafficPolicy"] == "Local"
    assert about[ONE]["selector"] == {"tulle.dev/verify-pod": POD.pod}
    assert about[GUARDED]["loadBalancerSourceRanges"] == ["10.0.0.1/32"]


def test_nobody_else_is_the_load_balancer_of_what_verify_balances() -> None:
    service = next(b for b in manifests(outside=True) if b["metadata"]["name"] == OPEN)
    assert is_balanced_by_us(service)
    service["spec"]["ipFamilies"] = ["IPv6"]
    [ingress] = balanced_at(service)["status"]["loadBalancer"]["ingress"]
    assert ingress["ip"].startswith("2001:db8:")
    others = [b for b in manifests(outside=True) if is_balanced_by_us(b)]
    assert [b["metadata"]["name"] for b in others] == [OPEN]


def test_how_a_service_is_reached() -> None:
    """S-24: neither a name, nor an address that leads to the balancer itself."""
    ports = [
        {"port": 80, "nodePort": 31_000, "protocol": "TCP"},
        {"port": 80, "nodePort": 31_001, "protocol": "UDP"},
        {"port": 81, "protocol": "TCP"},
    ]
    ingress = [
        {"ip": "198.51.100.1"},
        {"ip": "2001:db8::1", "ipMode": "Proxy"},
        {"hostname": "x.test"},
    ]
    body = {
        "metadata": {"name": "x"},
        "spec": {"ipFamilies": ["IPv4"], "ports": ports, "healthCheckNodePort": 31_002},
        "status": {"loadBalancer": {"ingress": ingress}},
    }
    wanted = Gate(frozenset({"IPv4"}), {"tcp": 31_000, "udp": 31_001}, {"IPv4": "198.51.100.1"}, 31_002)
    assert gates([body]) == {"x": wanted}
    bare = {"metadata": {"name": "y"}, "spec": {"externalIPs": ["2001:db8::2"]}}
    assert gates([bare])["y"].vips == {"IPv6": "2001:db8::2"}


def test_the_addresses_of_node_ports() -> None:
    """S-21: the first of each family."""
    listed = [("ExternalIP", "1.1.1.1"), ("InternalIP", "fd00::1"), ("InternalIP", "10.0.0.1")]
    listed += [("InternalIP", "10.0.0.2"), ("Hostname", "x")]
    node = {"status": {"addresses": [{"type": kind, "address": a} for kind, a in listed]}}
    assert primary_addresses(node) == {"IPv6": "fd00::1", "IPv4": "10.0.0.1"}


def of(source: Place, service: str, entry: str = "", statement: str = "") -> ExternalCheck:
    return next(
        c
        for c in CHECKS
        if (c.source, c.service, c.entry, c.family, c.transport) == (source, service, entry, "IPv4", "tcp")
        and c.statement == (statement or c.statement)
    )


def test_who_asks_which_nodes() -> None:
    """Pods their own and the next one, the nodes and the client outside all."""
    asked = {(c.source, c.entry) for c in CHECKS if c.service == OPEN and c.entry}
    assert {entry for source, entry in asked if source == POD} == {"n1", "n2"}
    assert {entry for source, entry in asked if source == PLACES[-2]} == {"n3", "n1"}
    for source in (HOST, WORLD):
        assert {entry for each, entry in asked if each == source} == set(NODES)
    assert {c.family for c in CHECKS} == {"IPv4", "IPv6"}
    assert {c.transport for c in CHECKS if c.purpose != "health"} == {"tcp", "udp"}


def test_external_traffic_policy_local_from_each_side() -> None:
    """S-42 to S-47; its one endpoint is on n1."""
    for source, entry, statement, purpose in (
        (WORLD, "n1", "external-local", "reach"),
        (WORLD, "n2", "external-local", "silent"),
        (HOST, "n2", "external-local", "silent"),
        (POD, "n2", "external-local", "silent"),
        (POD, "n1", "external-short", "reach"),
        (PLACES[4], "n2", "external-short", "reach"),
        (PLACES[5], "n1", "external-local", "reach"),
    ):
        check = of(source, ONE, entry)
        assert (check.statement, check.purpose) == (statement, purpose), (source, entry)
    assert {c.statement for c in CHECKS if c.service == ONE and not c.entry} == {"external-short"}
    status = {c.entry: c.status for c in CHECKS if c.purpose == "health"}
    assert status == {"n1": 200, "n2": 503, "n3": 503}


def test_addresses_of_load_balancers() -> None:
    """From outside only one that the cluster gave (nobody has a route to others); S-61 for all inside."""
    assert {c.service for c in CHECKS if c.source == WORLD and not c.entry} == {ANNOUNCED}
    assert {c.service for c in CHECKS if c.source == POD} >= {OPEN, ONE, GUARDED}
    inside = {str(c.source) for c in CHECKS if c.service == GUARDED and c.purpose == "reach"}
    assert inside == {"n1/a", "n1/host"}
    assert of(OTHER, GUARDED).purpose == "silent"


def test_each_endpoint_is_looked_for_from_outside_or_else_between_nodes() -> None:
    def who(checks: list[ExternalCheck]) -> set[Place]:
        return {c.source for c in checks if c.statement == "node-port-endpoints"}

    assert who(CHECKS) == {WORLD}
    alone = plan(replace(GROUND, outside=[]))
    assert who(alone) == {p for p in PLACES if p.host_network}
    assert all(c.source.node != c.entry for c in alone if c.statement == "node-port-endpoints")


def test_host_ports_lead_to_the_first_pod_of_the_node() -> None:
    wanted = {c.entry: c.wanted for c in CHECKS if c.service == HOST_PORT}
    assert wanted == {node: frozenset({f"a-{n}"}) for n, node in enumerate(NODES, 1)}


def test_what_is_not_there_is_not_asked_for() -> None:
    nothing = replace(GROUND, gates={}, host_port=0)
    assert plan(nothing) == []
    only = replace(GROUND, gates={OPEN: replace(GATES[OPEN], families=frozenset({"IPv6"}), vips={})})
    assert {c.family for c in plan(only) if c.service == OPEN} == {"IPv6"}
    assert plan(replace(GROUND, first=None, allowed=frozenset(), gates={ONE: GATES[ONE]}, host_port=0)) == []


def test_who_is_let_in() -> None:
    first, allowed, ranges = external_run.about(PLACES, GROUND.entries)
    assert first == POD
    assert allowed == {"n1/a", "n1/host"}
    assert set(ranges) == {"10.244.1.2/32", "fd00:244:1::2/128", "172.30.0.1/32", "fd00:30::1/128"}
    assert external_run.about([OTHER], {}) == (None, frozenset(), [])


def judged(check: ExternalCheck, answer: Answer | None, failure: str = "") -> dict[str, Finding]:
    return {f.statement: f for f in findings(check, answer, failure, NODE_ADDRESSES, WHO)}


@pytest.mark.parametrize("check", CHECKS[:: len(CHECKS) // 40], ids=lambda c: f"{c.source} {c.target}")
def test_no_sentence_is_left_out_when_nobody_answers(check: ExternalCheck) -> None:
    well = judged(check, all_well(check))
    assert all(finding.ok for finding in well.values())
    assert set(well) <= set(STATEMENTS)
    assert set(judged(check, None, "exec failed")) == set(well)
    assert not any(finding.ok for finding in judged(check, None, "exec failed").values())
    if check.purpose != "silent":
        assert {f.statement for f in judged(check, unanswered(check)).values() if not f.ok} == set(well)


TROUBLES: list[tuple[str, ExternalCheck, dict[str, Any], dict[str, Trouble]]] = [
    ("a stranger answers", of(WORLD, ONE, "n1"), {"met": {"a-2": ("203.0.113.10",)}}, {"": Trouble.FOREIGN}),
    (
        "masqueraded by the node",
        of(WORLD, ONE, "n1"),
        {"met": {"a-1": ("172.30.0.1",)}},
        {"external-source": Trouble.SOURCE},
    ),
    ("masqueraded, policy Cluster", of(WORLD, OPEN, "n1"), {"met": {"a-1": ("172.30.0.1",)}}, {}),
    (
        "an endpoint is missing",
        of(WORLD, OPEN, "n1", "node-port-endpoints"),
        {"met": {"a-1": (), "b-1": ()}},
        {"": Trouble.MISSING},
    ),
    ("tries fail", of(WORLD, OPEN, "n1"), {"failed": 1, "error": "no answer"}, {"": Trouble.MISSING}),
    (
        "two for one client",
        of(WORLD, "stay", "n1"),
        {"met": {"a-1": (), "a-2": ()}},
        {"": Trouble.SPLIT},
    ),
    (
        "the Pod shows itself",
        of(WORLD, OPEN, "n1"),
        {"shown": ("10.244.1.2 8099",)},
        {"service-shown": Trouble.SHOWN},
    ),
    ("policy Local leads on", of(WORLD, ONE, "n2"), {"name": "a-1"}, {"": Trouble.FOREIGN}),
    ("no range lets it in", of(OTHER, GUARDED), {"name": "a-1"}, {"": Trouble.OPEN}),
    (
        "no refusal",
        of(WORLD, CLOSED, "n1"),
        {"error": "no answer", "seconds": 2.0},
        {"": Trouble.NOT_REFUSED},
    ),
    ("a late refusal", of(WORLD, CLOSED, "n1"), {"seconds": 1.5}, {"": Trouble.NOT_REFUSED}),
    (
        "healthy without an endpoint",
        of(WORLD, ONE, "n2", "health-port"),
        {"status": 200},
        {"": Trouble.HEALTH},
    ),
]


@pytest.mark.parametrize(
    ("check", "fields", "troubles"), [case[1:] for case in TROUBLES], ids=[case[0] for case in TROUBLES]
)
def test_what_does_not_hold(
    check: ExternalCheck, fields: dict[str, Any], troubles: dict[str, Trouble]
) -> None:
    whole = all_well(check)
    known = {"met": whole.met, "shown": whole.shown, "error": whole.error, "status": whole.status}
    seen = judged(check, Answer(**({"id": 0} | known | fields)))
    wanted = {name or check.statement: trouble for name, trouble in troubles.items()}
    assert {name: f.trouble for name, f in seen.items() if not f.ok} == wanted


def test_a_pod_may_be_masqueraded_on_its_way_to_another_node_but_not_by_that_one() -> None:
    check = of(PLACES[6], ONE, "n1")
    for peer, ok in (("10.244.3.2", True), ("172.30.0.3", True), ("172.30.0.1", False)):
        answer = Answer(0, met={"a-1": (peer,)}, shown=(f"{check.address} {check.port}",))
        assert judged(check, answer)["external-source"].ok is ok


def test_rows_name_the_node_that_was_asked() -> None:
    row = judged(of(WORLD, OPEN, "n2"), all_well(of(WORLD, OPEN, "n2")))["node-port"].row("")
    assert (row.source, row.target) == ("outside", "open:30001 at n2")
    assert row.expected == "one of n1/a, n1/b, n2/a and 3 more answers"


def where(condition: Callable[[ExternalCheck], bool], answer: World) -> World:
    return lambda check: answer(check) if condition(check) else all_well(check)


def at_nodes(check: ExternalCheck) -> bool:
    return check.statement.startswith(("node-port", "external")) and bool(check.entry)


NOBODY = "is reached from anywhere: does a service proxy run on the nodes?"
BROKEN: list[tuple[str, World, set[str]]] = [
    ("nothing", all_well, set()),
    ("no node port at all", where(at_nodes, unanswered), {f"no NodePort {NOBODY}"}),
    (
        "a node that answers nobody from elsewhere",
        where(lambda c: at_nodes(c) and c.entry == "n2" and c.source.node != "n2", unanswered),
        {"all NodePorts fail on n2, from other machines, though not elsewhere"},
    ),
    (
        "sockets of one node",
        where(lambda c: at_nodes(c) and c.source.pod in ("a-1", "host-1") and c.entry == "n1", unanswered),
        {"all NodePorts fail on n1, at sockets, though not elsewhere"},
    ),
    (
        "the client outside gets nowhere",
        where(lambda c: at_nodes(c) and c.source == WORLD, unanswered),
        {"all NodePorts fail from outside, though not elsewhere"},
    ),
    (
        "one Service on one node",
        where(lambda c: c.service == OPEN and c.entry == "n3", unanswered),
        {"the Service table on n3 differs from the API: it has no open:30001"},
    ),
    ("no host port", where(lambda c: c.service == HOST_PORT, unanswered), {f"no hostPort {NOBODY}"}),
    (
        "an announced address that leads nowhere",
        where(lambda c: c.service == ANNOUNCED, unanswered),
        {"the announcement of announced:80 to the network: no packet for it comes back"},
    ),
    (
        "policy Local leads on",
        where(lambda c: c.purpose == "silent" and c.service == ONE, lambda c: Answer(0, name="a-1")),
        {
            "the Service table on n2 differs from the API: one:30004 leads to n1/a",
            "the Service table on n3 differs from the API: one:30004 leads to n1/a",
        },
    ),
    (
        "no ranges",
        where(lambda c: c.purpose == "silent" and c.service == GUARDED, lambda c: Answer(0, name="a-1")),
        {
            "loadBalancerSourceRanges on n2: they let in whom they do not name",
            "loadBalancerSourceRanges on n3: they let in whom they do not name",
            "loadBalancerSourceRanges on every node, packet by packet: they let in whom they do not name",
        },
    ),
    (
        "health checks of a node",
        where(lambda c: c.purpose == "health" and c.entry == "n2", lambda c: Answer(0, status=200)),
        {"health checks on n2: they differ from the API"},
    ),
    (
        "masqueraded at the node that was asked",
        where(
            lambda c: c.own and c.source == WORLD and c.entry == "n1",
            lambda c: replace_peer(all_well(c), "172.30.0.1"),
        ),
        {"NAT at n1: the source becomes 172.30.0.1"},
    ),
]


def replace_peer(answer: Answer, peer: str) -> Answer:
    return Answer(0, met=dict.fromkeys(answer.met, (peer,)), shown=answer.shown)


@pytest.mark.parametrize(("world", "hops"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_where_it_is_broken(world: World, hops: set[str]) -> None:
    assert broken(found(world)) == hops


def between_n1_and_n2(check: PathCheck) -> Answer:
    pair = {check.source.node, check.target.node}
    return lost(check) if pair == {"n1", "n2"} else well(check)


def test_what_is_broken_between_nodes_is_not_blamed_on_services() -> None:
    """A client on a cut off way, and a node that cannot hand over, which the client outside meets."""

    def cut(check: ExternalCheck) -> Answer:
        if {check.source.node, check.entry} == {"n1", "n2"}:
            return unanswered(check)
        if check.purpose == "stick" and check.entry in ("n1", "n2"):
            return unanswered(check)  # whoever it stays with may be on the other one
        if check.every and check.entry != "n3":
            own = [pod for pod in check.wanted if not pod.endswith("1" if check.entry == "n2" else "2")]
            return Answer(0, met=dict.fromkeys(own, ()), shown=(f"{check.address} {check.port}",))
        return all_well(check)

    network: Network = between_n1_and_n2
    assert broken(found(cut), network) == {"n1 ↔ n2"}


def test_notes_on_what_is_not_judged_and_on_masquerading() -> None:
    check = of(WORLD, OPEN, "n1")
    masqueraded = replace_peer(all_well(check), "172.30.0.1")
    assert external_run.notes(GROUND, [(check, all_well(check))], NODE_ADDRESSES) == []
    [note] = external_run.notes(GROUND, [(check, masqueraded)], NODE_ADDRESSES)
    assert "as 172.30.0.1" in note
    [note] = external_run.notes(replace(GROUND, outside=[]), [], NODE_ADDRESSES)
    assert "--outside" in note
    gates = {name: gate for name, gate in GATES.items() if name != ANNOUNCED}
    [note] = external_run.notes(replace(GROUND, gates=gates), [], NODE_ADDRESSES)
    assert "load balancers" in note
