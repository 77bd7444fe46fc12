"""Which pools are there for a Service."""

from __future__ import annotations

from ipaddress import ip_address

from pool_objects import judged, pool

from tulle.external_to_service.pools.offer import offer
from tulle.model.selectors import LabelSelector, Requirement

PUBLIC = LabelSelector({"tier": "public"})
TEAM = LabelSelector(match_expressions=(Requirement("team", "In", ("a", "b")),))
POOLS = judged(
    pool("by-label", "203.0.113.1", service_selector=PUBLIC),
    pool("by-namespace", "203.0.113.2", namespace_selector=TEAM),
    pool("by-both", "203.0.113.3", service_selector=PUBLIC, namespace_selector=TEAM),
    pool("rest", "203.0.113.4"),
    pool("by-request", "203.0.113.5", default=False),
    pool("wrong", "x", service_selector=PUBLIC),
)


def names(labels: dict[str, str], namespace: dict[str, str]) -> tuple[str, str, str]:
    found = offer(POOLS, labels, namespace)
    lists = (found.automatic, found.on_request, found.waiting)
    first, second, third = (" ".join(sorted(each.name for each in pools)) for pools in lists)
    return first, second, third


def test_both_selectors_must_match_and_the_default_pool_is_for_the_rest() -> None:
    assert names({}, {}) == ("rest", "by-request rest", "")
    assert names({"tier": "public"}, {}) == ("by-label", "by-label by-request rest", "wrong")
    assert names({}, {"team": "b"}) == ("by-namespace", "by-namespace by-request rest", "")
    assert names({"tier": "public"}, {"team": "a"}) == (
        "by-both by-label by-namespace",
        "by-both by-label by-namespace by-request rest",
        "wrong",
    )


def test_an_empty_selector_takes_everything() -> None:
    everything = judged(
        pool("all", "203.0.113.1", service_selector=LabelSelector()), pool("rest", "203.0.113.2")
    )
    assert [each.name for each in offer(everything, {}, {}).automatic] == ["all"]


def test_a_default_pool_with_selectors_is_for_both() -> None:
    both = judged(pool("both", "203.0.113.1", service_selector=PUBLIC, default=True))
    assert [each.name for each in offer(both, {"tier": "public"}, {}).automatic] == ["both"]
    assert [each.name for each in offer(both, {}, {}).automatic] == ["both"]


def test_whose_an_address_is() -> None:
    known = judged(pool("wrong", "203.0.113.0/28", "x"), pool("right", "203.0.113.3"))
    found = offer(known, {}, {})
    owners = [found.owner(ip_address(text)) for text in ("203.0.113.3", "203.0.113.4", "192.0.2.1")]
    assert [owner and owner.name for owner in owners] == ["right", "wrong", None]
