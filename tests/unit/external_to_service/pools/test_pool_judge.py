"""Pools that can be used, and what is wrong with others: nothing else is disturbed."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from pool_objects import NOBODY, judged, pool

from tulle.model.selectors import LabelSelector, Requirement

AROUND = replace(
    NOBODY,
    nodes={ip_address("198.51.100.9"): "n", ip_address("2001:db8::9"): "n"},
    pod_cidrs={ip_network("10.244.1.0/24"): "n"},
    service_cidrs={ip_network("fd00:10:96::/112"): "kubernetes"},
)


@pytest.mark.parametrize(
    ("addresses", "reason", "says"),
    [
        (["203.0.113.0/28", "2001:db8:1::/127"], "Usable", "16 IPv4 and 2 IPv6 addresses for Services"),
        (["203.0.113.1"], "Usable", "1 IPv4 address for Services"),
        ([], "InvalidAddresses", "spec.addresses: at least one"),
        (["203.0.113.1", "x"], "InvalidAddresses", "spec.addresses[1]: 'x' cannot be read"),
        (["203.0.113.0/28", "203.0.113.3"], "InvalidAddresses", "spec.addresses[1]: '203.0.113.3' overlaps"),
        (["198.51.100.0/28"], "OverlapsNode", "overlaps 198.51.100.9, which belongs to Node n"),
        (["2001:db8::/64"], "OverlapsNode", "overlaps 2001:db8::9"),
        (["203.0.113.1", "10.0.0.0/8"], "OverlapsPods", "which belongs to Pods of n"),
        (["fd00:10:96::7"], "OverlapsServices", "which belongs to ServiceCIDR kubernetes"),
    ],
)
def test_verdicts(addresses: list[str], reason: str, says: str) -> None:
    bad, good = judged(pool("bad", *addresses), pool("good", "192.0.2.1"), around=AROUND)
    assert bad.verdict.reason == reason and says in bad.verdict.message
    assert bad.usable is (reason == "Usable")
    assert good.usable


def test_the_younger_loses_unless_the_older_is_wrong_itself() -> None:
    old, young, younger = (
        pool("old", "203.0.113.0/28", "x", age=1),
        pool("young", "203.0.113.0/29", age=2),
        pool("younger", "203.0.113.7-203.0.113.9", age=3),
    )
    verdicts = {each.name: each.verdict for each in judged(younger, young, old)}
    assert verdicts["old"].reason == "InvalidAddresses"
    assert verdicts["young"].usable
    assert verdicts["younger"].reason == "OverlapsPool"
    assert "LoadBalancerPool young, the older one" in verdicts["younger"].message


def test_what_could_be_read_of_a_wrong_pool_is_known() -> None:
    (found,) = judged(pool("a", "x", "203.0.113.0/28"))
    assert ip_address("203.0.113.3") in found and not found.usable


@pytest.mark.parametrize(
    ("requirement", "says"),
    [
        (Requirement("", "Exists"), "key: a label's name is needed"),
        (Requirement("a", "In"), "values: In needs at least one"),
        (Requirement("a", "Exists", ("b",)), "values: Exists takes none"),
        (Requirement("a", "Like", ("b",)), "operator: 'Like' is not In"),
    ],
)
def test_a_selector_that_cannot_be_right(requirement: Requirement, says: str) -> None:
    selector = LabelSelector(match_expressions=(Requirement("x", "Exists"), requirement))
    (found,) = judged(pool("a", "203.0.113.1", namespace_selector=selector))
    assert found.verdict.reason == "InvalidSelector"
    assert f"spec.namespaceSelector.matchExpressions[1].{says}" in found.verdict.message
