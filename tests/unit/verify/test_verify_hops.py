"""The broken place is named from what fails and what holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from networks import NODE_ADDRESSES, OWNERS, Network, lost, outcomes, well

from tulle.verify import hops
from tulle.verify.judge import Answer, outcome, row
from tulle.verify.plan import Check


def losing(condition: Callable[[Check], bool]) -> Network:
    return lambda check: lost(check) if condition(check) else well(check)


def nodes(check: Check) -> tuple[str, str]:
    return check.source.node, check.target.node


def crosses(check: Check, node: str) -> bool:
    """The check goes between ``node`` and another one."""
    return node in nodes(check) and len(set(nodes(check))) == 2


def touches(check: Check, place: str) -> bool:
    """The check leaves or enters the Pod's network namespace."""
    return place in (str(check.source), str(check.target)) and check.source is not check.target


def masquerading(check: Check) -> Answer:
    """Each node puts its own address in place of its Pods'."""
    pods_alone = not check.source.host_network and not check.target.host_network
    if not pods_alone or len(set(nodes(check))) == 1:
        return well(check)
    return Answer(0, check.target.pod, f"172.30.0.{check.source.node[1:]}")


def large(check: Check) -> bool:
    return check.protocol.endswith("-large")


BROKEN: list[tuple[str, Network, set[str]]] = [
    ("nothing", well, set()),
    (
        "a Pod's link",
        losing(lambda c: touches(c, "n1/a")),
        {"n1/a → n1", "n1 → n1/a"},
    ),
    (
        "a node cut off",
        losing(lambda c: crosses(c, "n2")),
        {"n2 ↔ all other nodes"},
    ),
    (
        "no IPv6 route on a node",
        losing(lambda c: crosses(c, "n2") and c.family == "IPv6"),
        {"n2 ↔ all other nodes (only IPv6)"},
    ),
    (
        "a small MTU on a node's uplink",
        losing(lambda c: crosses(c, "n3") and large(c)),
        {"n3 ↔ all other nodes (only payloads above the MTU)"},
    ),
    (
        "fragments lost between two nodes",
        losing(lambda c: set(nodes(c)) == {"n1", "n3"} and c.protocol == "udp-large"),
        {"n1 ↔ n3 (only UDP payloads above the MTU)"},
    ),
    (
        "UDP from one node to another",
        losing(lambda c: nodes(c) == ("n1", "n2") and c.protocol.startswith("udp")),
        {"n1 → n2 (only UDP)"},
    ),
    (
        "nodes to Pods of another node",
        losing(lambda c: nodes(c) == ("n1", "n2") and c.source.host_network),
        {"n1 → n2 (only from the host network)"},
    ),
    (
        "two troubles between the same nodes",
        losing(
            lambda c: (
                nodes(c) == ("n1", "n2")
                and (c.protocol == "udp-large" or (c.source.host_network and c.family == "IPv4"))
            )
        ),
        {
            "n1 → n2 (only IPv4, from the host network)",
            "n1 → n2 (only IPv6, UDP payloads above the MTU)",
            "n1 → n2 (only UDP payloads above the MTU, from Pods)",
            "n1 → n2 (only UDP payloads above the MTU)",
        },
    ),
    (
        "ICMP dropped everywhere",
        losing(lambda c: len(set(nodes(c))) == 2 and c.protocol == "icmp"),
        {f"{pair} (only ICMP)" for pair in ("n1 ↔ n2", "n1 ↔ n3", "n2 ↔ n3")},
    ),
    (
        "everything on a node",
        losing(lambda c: "n2" in nodes(c) and c.source is not c.target),
        {"inside node n2"},
    ),
    (
        "IPv6 of one Pod",
        losing(lambda c: touches(c, "n1/a") and c.family == "IPv6"),
        {"n1/a → n1 (only IPv6)", "n1 → n1/a (only IPv6)"},
    ),
    (
        "one Pod of a node from another of it",
        losing(lambda c: (str(c.source), str(c.target)) == ("n1/a", "n1/b")),
        {"n1/a → n1 → n1/b (only from Pods)"},
    ),
    (
        "localhost",
        losing(lambda c: c.statement == "localhost" and str(c.source) == "n1/a"),
        {"inside n1/a"},
    ),
    (
        "masquerading",
        masquerading,
        {f"NAT at n{n}: the source becomes 172.30.0.{n}" for n in (1, 2, 3)},
    ),
]


@pytest.mark.parametrize(("network", "wanted"), [case[1:] for case in BROKEN], ids=[c[0] for c in BROKEN])
def test_the_broken_place_is_named(network: Network, wanted: set[str]) -> None:
    results = outcomes(network)
    found = hops.find(results, OWNERS)
    assert set(found.values()) == wanted
    assert set(found) == {number for number, result in enumerate(results) if not result.ok}


def test_an_unknown_rewriter() -> None:
    found = hops.find(outcomes(lambda c: Answer(0, c.target.pod, "192.0.2.9")), OWNERS)
    assert set(found.values()) == {
        "NAT on the way: the source becomes 192.0.2.9, which is no node's and no Pod's address"
    }


def test_the_wrong_pod_answers() -> None:
    def swapped(check: Check) -> Answer:
        if check.address == "10.244.1.2":
            return Answer(0, "b-1", check.source.address(check.family))
        return well(check)

    assert set(hops.find(outcomes(swapped), OWNERS).values()) == {"10.244.1.2 leads to another Pod"}


def test_a_pod_that_could_not_be_asked_is_no_evidence() -> None:
    results = outcomes(well)
    asked = [
        r if str(r.check.source) != "n1/a" else outcome(r.check, None, "exec failed", NODE_ADDRESSES)
        for r in results
    ]
    assert set(hops.find(asked, OWNERS).values()) == {"exec into n1/a"}


def test_a_row_says_what_was_expected_and_seen() -> None:
    result = next(r for r in outcomes(masquerading) if not r.ok)
    shown = row(result, "somewhere")
    assert (shown.id, shown.source, shown.target) == ("pod-to-pod", "n1/a", "n2/a")
    assert (shown.expected, shown.seen) == ("n2/a sees 10.244.1.2", "n2/a sees 172.30.0.1")
    assert (shown.ok, shown.hop) == (False, "somewhere")
