"""Where Services and names are broken is told from who is served and who is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from networks import PLACES as EVERYBODY
from networks import Network, lost, well
from service_world import (
    DNS,
    ENDPOINTS,
    FACTS,
    Check,
    World,
    all_well,
    broken,
    found,
    unanswered,
)

from tulle.verify import name_judge
from tulle.verify.findings import Trouble
from tulle.verify.judge import Answer
from tulle.verify.name_plan import NameCheck
from tulle.verify.plan import Check as PathCheck
from tulle.verify.service_plan import ServiceCheck
from tulle.verify.services import ALL, LOCAL, Facts


def where(condition: Callable[[ServiceCheck], bool], answer: World) -> World:
    """``answer`` for Services that meet a condition."""
    return lambda check: (
        answer(check) if isinstance(check, ServiceCheck) and condition(check) else all_well(check)
    )


def dns_where(condition: Callable[[NameCheck], bool], answer: World) -> World:
    return lambda check: (
        answer(check) if isinstance(check, NameCheck) and condition(check) else all_well(check)
    )


def without(name: str) -> World:
    def answer(check: Check) -> Answer:
        whole = all_well(check)
        return Answer(0, met={k: v for k, v in whole.met.items() if k != name}, shown=whole.shown)

    return answer


def never_refusing(check: Check) -> Answer:
    return Answer(0, error="no answer", seconds=2.7)


def as_other(peer: str) -> World:
    def answer(check: Check) -> Answer:
        whole = all_well(check)
        return Answer(0, met=dict.fromkeys(whole.met, (peer,)), shown=whole.shown)

    return answer


def on(node: str, service: str = "", **fields: object) -> Callable[[ServiceCheck], bool]:
    """Tries, not refusals, from a node to a Service."""
    return lambda check: (
        check.source.node == node
        and check.purpose != "refuse"
        and service in ("", check.target)
        and all(getattr(check, name) == value for name, value in fields.items())
    )


def tries(check: ServiceCheck) -> bool:
    return check.purpose != "refuse"


SERVICES: list[tuple[str, World, set[str]]] = [
    ("nothing", all_well, set()),
    (
        "no service proxy at all",
        where(lambda c: True, never_refusing),
        {"no Service is reached from anywhere: does a service proxy run on the nodes?"},
    ),
    (
        "no service proxy on a node",
        where(lambda c: c.source.node == "n2", never_refusing),
        {"all Services fail on n2, though not elsewhere"},
    ),
    (
        "no service proxy for IPv6",
        where(lambda c: c.family == "IPv6", never_refusing),
        {"no Service is reached from anywhere (only IPv6): does a service proxy run on the nodes?"},
    ),
    (
        "the packets of Pods are not translated",
        where(lambda c: c.source.packets, never_refusing),
        {"all Services fail on every node, packet by packet, though not elsewhere"},
    ),
    (
        "sockets are not translated on a node",
        where(lambda c: c.source.node == "n1" and not c.source.packets, never_refusing),
        {"all Services fail on n1, at sockets, though not elsewhere"},
    ),
    (
        "a frontend that one node lacks",
        where(on("n1", "all:8080"), unanswered),
        {"the Service table on n1 differs from the API: it has no all:8080"},
    ),
    (
        "in one family only",
        where(on("n1", "all:80", family="IPv4", transport="udp"), unanswered),
        {"the Service table on n1 differs from the API: it has no all:80 (only IPv4 UDP)"},
    ),
    (
        "a frontend that all nodes lack",
        where(lambda c: tries(c) and c.service == LOCAL, unanswered),
        {"the Service table on every node differs from the API: it has no local:80"},
    ),
    (
        "a backend that a node lacks",
        where(lambda c: on("n3", "all:80")(c) and c.source.pod != "b-1", without("b-1")),
        {"the Service table on n3 differs from the API: all:80 lacks n1/b"},
    ),
    (
        "hairpin, in packets",
        where(
            lambda c: c.source.packets and c.purpose in ("spread", "local"),
            lambda c: without(c.source.pod)(c),
        ),
        {"hairpin on every node, packet by packet"},
    ),
    (
        "an endpoint that should not be there",
        where(
            on("n1", "local:80"),
            lambda c: Answer(0, met=all_well(c).met | {"a-3": ()}, shown=all_well(c).shown),
        ),
        {"the Service table on n1 differs from the API: local:80 leads to n3/a"},
    ),
    (
        "masqueraded",
        where(lambda c: tries(c) and c.source.pod == "a-1", as_other("172.30.0.1")),
        {"NAT at n1: the source becomes 172.30.0.1"},
    ),
    (
        "by someone unknown",
        where(lambda c: tries(c) and c.source.pod == "a-1", as_other("192.0.2.1")),
        {"NAT on the way: the source becomes 192.0.2.1, which is no node's and no Pod's address"},
    ),
    (
        "the client is shown the endpoint",
        where(
            lambda c: tries(c) and c.source.packets and c.transport == "udp",
            lambda c: Answer(0, met=all_well(c).met, shown=("10.244.1.2 8099",)),
        ),
        {
            "the way back from a Service on every node, packet by packet (only UDP): "
            "it does not restore the Service's address"
        },
    ),
    (
        "no affinity on a node",
        where(
            on("n2", "sticky:80"), lambda c: Answer(0, met={"a-1": (), "a-2": ()}, shown=all_well(c).shown)
        ),
        {"session affinity on n2"},
    ),
    (
        "silence in the place of a refusal",
        where(lambda c: c.purpose == "refuse" and c.port == 81, never_refusing),
        {"the Service table on every node: it does not refuse"},
    ),
    (
        "tries that fail now and then",
        where(
            on("n1", "sticky:80"),
            lambda c: Answer(0, met=all_well(c).met, shown=all_well(c).shown, failed=2, error="no answer"),
        ),
        {"the Service table on n1 leads to what does not answer"},
    ),
]


@pytest.mark.parametrize(("world", "wanted"), [case[1:] for case in SERVICES], ids=[c[0] for c in SERVICES])
def test_what_is_broken_in_services(world: World, wanted: set[str]) -> None:
    assert broken(found(world)) == wanted


NAMES: list[tuple[str, World, set[str]]] = [
    (
        "no DNS",
        dns_where(lambda c: True, unanswered),
        {f"the cluster DNS: nobody gets an answer from the DNS at {a}; does it run?" for a in DNS.values()}
        | {"the cluster DNS on every node, see what it answers to the probe"},
    ),
    (
        "the DNS process of a node",
        dns_where(lambda c: c.source.node == "n2", unanswered),
        {f"the DNS at {a} on n2: no answer there, though elsewhere; does it run?" for a in DNS.values()}
        | {"the cluster DNS on n2, see what it answers to the probe"},
    ),
    (
        "no DNS over TCP",
        dns_where(lambda c: c.transport == "tcp", unanswered),
        {
            f"the cluster DNS: nobody gets an answer from the DNS at {a} (only TCP); does it run?"
            for a in DNS.values()
        },
    ),
    (
        "a wrong address on a node",
        dns_where(
            lambda c: c.source.node == "n3" and c.target == "A all" and c.server == DNS["IPv4"],
            lambda c: Answer(0, rcode="NOERROR", records=("A 10.96.9.9",)),
        ),
        {"the names of the DNS at 10.96.0.10 on n3: they differ from the API"},
    ),
    (
        "names that do not exist are slow",
        dns_where(
            lambda c: c.record.statement == "name-missing" and c.source.node == "n1",
            lambda c: Answer(0, rcode="NXDOMAIN", seconds=1.5),
        ),
        {f"the DNS at {a}, which answers only some questions" for a in DNS.values()},
    ),
    (
        "the library alone",
        dns_where(lambda c: not c.server and c.source.pod == "a-1", unanswered),
        {"the resolver library or the search path in n1/a: the DNS itself answers"},
    ),
]


@pytest.mark.parametrize(("world", "wanted"), [case[1:] for case in NAMES], ids=[c[0] for c in NAMES])
def test_what_is_broken_in_names(world: World, wanted: set[str]) -> None:
    assert broken(found(world)) == wanted


def test_a_pod_without_search_path() -> None:
    finding = name_judge.without_zone(EVERYBODY[0], "search , nameserver 8.8.8.8")
    assert (finding.trouble, broken([finding])) == (
        Trouble.NO_ZONE,
        {"/etc/resolv.conf, which the kubelet writes: was it given the address of a cluster DNS?"},
    )


def losing(condition: Callable[[PathCheck], bool]) -> Network:
    return lambda check: lost(check) if condition(check) else well(check)


def test_a_broken_path_is_not_blamed_on_services() -> None:
    """Nobody on n1 reaches n2/b: the sentences on Services fail for that very reason."""

    def network(check: PathCheck) -> bool:
        return (check.source.node, str(check.target)) == ("n1", "n2/b")

    world = where(on("n1", "all:80"), without("b-2"))
    assert broken(found(world), losing(network)) == {"n1 → n2"}


def test_an_affinity_to_an_endpoint_out_of_reach() -> None:
    def network(check: PathCheck) -> bool:
        return (check.source.pod, check.target.pod) == ("a-1", "b-2")

    world = where(lambda c: c.source.pod == "a-1" and c.service == "sticky", unanswered)
    assert broken(found(world), losing(network)) == {"n1 → n2 (only from Pods)"}


def test_tries_that_fail_because_one_endpoint_is_out_of_reach() -> None:
    """Whoever answered in the end may be another one than who was tried first."""

    def network(check: PathCheck) -> bool:
        return (check.source.node, str(check.target)) == ("n1", "n2/b")

    def now_and_then(check: Check) -> Answer:
        whole = all_well(check)
        return Answer(0, met=whole.met, shown=whole.shown, failed=2, error="no answer")

    world = where(on("n1", "sticky:80"), now_and_then)
    assert broken(found(world), losing(network)) == {"n1 → n2"}


def test_a_pod_that_is_cut_off_is_no_evidence_against_services_and_dns() -> None:
    def cut(check: Check) -> Answer:
        return unanswered(check) if check.source.pod == "b-1" else all_well(check)

    def network(check: PathCheck) -> bool:
        return "b-1" in (check.source.pod, check.target.pod) and check.source is not check.target

    assert broken(found(cut), losing(network)) == {"n1/b → n1"}


def test_an_endpoint_that_no_pod_is() -> None:
    nobody = replace(ENDPOINTS[0], address="10.244.1.250", hostname="", slice="by-hand")
    facts = Facts(FACTS.addresses, {**FACTS.endpoints, ALL: (*ENDPOINTS, nobody)})
    world = where(lambda c: nobody.address in c.wanted, without(nobody.address))
    assert broken(found(world, facts), facts=facts) == {
        "endpoint 10.244.1.250: no Pod has that address, but the API lists it in EndpointSlice by-hand"
    }


def test_an_api_that_lists_nobody() -> None:
    facts = Facts(FACTS.addresses, {})
    hops = broken(found(where(tries, unanswered), facts), facts=facts)
    assert hops == {
        f"the API: it lists no ready endpoint of Service {name}" for name in ("all", "local", "sticky")
    }
