from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from networks import NODE_ADDRESSES, PLACES, well

from tulle.verify import judge
from tulle.verify.judge import Answer, Interface, Report
from tulle.verify.plan import MAIN, SECOND, Check, Place, plan
from tulle.verify.statements import FAMILIES

POD = PLACES[0]
HOST = PLACES[2]
LINK = Interface("eth0", "02:00:00:00:00:01", POD.addresses)


def reports(main: Report, second: Report | None = None) -> dict[tuple[str, str], Report]:
    return {(POD.pod, MAIN): main, (POD.pod, SECOND): second or main}


def check_of(source: Place, target: Place) -> Check:
    checks = plan(PLACES, FAMILIES)
    return next(c for c in checks if (c.source, c.target) == (source, target))


def own_ip(claims: Counter[str], report: Report, place: Place = POD) -> list[str]:
    """What is seen where the sentence does not hold."""
    nodes = frozenset[str]().union(*NODE_ADDRESSES.values())
    rows = judge.own_ips([place], claims, nodes, {(place.pod, MAIN): report}, FAMILIES)
    return [row.seen for row in rows if not row.ok]


def test_own_ip() -> None:
    fine = Counter(POD.addresses)
    four, six = POD.addresses
    assert own_ip(fine, Report((LINK,))) == []
    assert own_ip(fine + Counter([four]), Report((LINK,))) == [f"{four}, which another Pod has too"]
    only_four = msgspec.structs.replace(LINK, addresses=(four,))
    assert own_ip(fine, Report((only_four,))) == [f"{six}, but on the interfaces {four}"]
    assert own_ip(fine, Report(failure="exec failed")) == ["exec failed"] * 2


def test_own_ip_of_a_pod_with_one_family_or_a_nodes_address() -> None:
    single = Place("x", "n1", "a", 1, ("10.244.1.2",))
    assert own_ip(Counter(), Report((LINK,)), single) == ["no address"]
    taken = Place("x", "n1", "a", 1, HOST.addresses)
    assert own_ip(Counter(), Report((LINK,)), taken) == [f"{a}, which is a node's" for a in HOST.addresses]
    assert list(judge.own_ips([HOST], Counter(), (), {}, FAMILIES)) == []


def test_containers_that_share_and_that_do_not() -> None:
    assert judge.shared(POD, reports(Report((LINK,)))).ok
    other = msgspec.structs.replace(LINK, mac="02:00:00:00:00:02")
    row = judge.shared(POD, reports(Report((LINK,)), Report((other,))))
    assert (row.ok, row.hop) == (False, "inside n1/a")
    assert row.seen.startswith("02:00:00:00:00:02 10.244.1.2")
    assert not judge.shared(POD, reports(Report(failure="no"))).ok


@pytest.mark.parametrize(
    ("answer", "ok", "seen"),
    [
        (Answer(1, error="EADDRINUSE"), True, "EADDRINUSE"),
        (Answer(1), False, "the port was free"),
        (None, False, "exec failed"),
    ],
)
def test_collision(answer: Answer | None, ok: bool, seen: str) -> None:
    row = judge.collision(POD, "IPv4", answer, "exec failed")
    assert (row.ok, row.seen) == (ok, seen)


def test_a_host_network_source_may_be_seen_as_any_address_of_its_node() -> None:
    check = check_of(HOST, POD)
    assert judge.outcome(check, Answer(0, POD.pod, "fd00:30::1"), "", NODE_ADDRESSES).ok
    wrong = judge.outcome(check, Answer(0, POD.pod, "172.30.0.2"), "", NODE_ADDRESSES)
    assert (wrong.ok, wrong.reached) == (False, True)
    assert judge.expected(wrong) == "n1/a sees an address of n1"


def test_an_echo_whose_sender_could_not_be_observed_still_arrived() -> None:
    check = check_of(POD, PLACES[1])
    result = judge.outcome(check, Answer(0), "", NODE_ADDRESSES)
    assert (result.ok, result.seen) == (True, "n1/b answers")
    assert judge.outcome(check, well(check), "", NODE_ADDRESSES).seen == "n1/b sees 10.244.1.2"


def test_rows_for_machines() -> None:
    encoded = msgspec.json.decode(msgspec.json.encode(judge.readiness(POD, "container main: Error")))
    assert list(encoded) == [
        *("id", "statement", "from", "to", "family", "protocol", "ok", "expected", "seen", "hop"),
    ]
    assert (encoded["from"], encoded["ok"], encoded["seen"]) == ("n1/a", False, "container main: Error")
