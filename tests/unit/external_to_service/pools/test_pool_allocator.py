"""Who gets which address (S-75), case by case."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from pool_objects import addresses, claim, offered, pool, service

from tulle.external_to_service.pools.allocator import Allocator
from tulle.external_to_service.pools.claim import ADDRESSES, SHARE
from tulle.external_to_service.pools.external import external_ips
from tulle.external_to_service.pools.outcome import Outcome
from tulle.model.selectors import LabelSelector

SMALL = offered(pool("p", "203.0.113.0/31", "2001:db8::/127"))
DUAL = {"ip_families": ("IPv4", "IPv6")}
KEY = {SHARE: "key"}


def texts(outcome: Outcome) -> list[str]:
    return [str(address) for address in outcome.addresses]


def asking(*wanted: str, **fields: Any) -> dict[str, Any]:
    return {"annotations": {ADDRESSES: ",".join(wanted)}, **fields}


def test_the_lowest_that_is_free_and_again_when_it_comes_back() -> None:
    allocator = Allocator()
    given = [texts(allocator.settle(claim(name), SMALL)) for name in "abc"]
    assert given == [["203.0.113.0"], ["203.0.113.1"], []]
    assert not allocator.take_freed()
    allocator.release(("default", "a"))
    assert allocator.take_freed()
    assert texts(allocator.settle(claim("c"), SMALL)) == ["203.0.113.0"]


def test_what_a_service_has_it_keeps() -> None:
    allocator = Allocator()
    first = allocator.settle(claim("b"), SMALL)
    assert allocator.settle(claim("b", "203.0.113.0"), SMALL) == first
    assert first.complete and first.message == "203.0.113.0 given"


def test_two_families() -> None:
    allocator = Allocator()
    assert texts(allocator.settle(claim(**DUAL), SMALL)) == ["203.0.113.0", "2001:db8::"]
    assert texts(allocator.settle(claim(ip_families=("IPv6", "IPv4")), SMALL)) == [
        "2001:db8::",
        "203.0.113.0",
    ]
    only = offered(pool("only", "203.0.113.7"))
    prefer = allocator.settle(claim("b", ip_family_policy="PreferDualStack", **DUAL), only)
    assert (texts(prefer), prefer.reason, prefer.complete) == (["203.0.113.7"], "PartlyAssigned", False)
    assert prefer.message == "203.0.113.7 given; LoadBalancerPool only has no IPv6 addresses"
    allocator.release(("default", "b"))
    require = allocator.settle(claim("c", ip_family_policy="RequireDualStack", **DUAL), only)
    assert (texts(require), require.reason) == ([], "NoPool")
    assert texts(allocator.settle(claim("d"), only)) == ["203.0.113.7"], "nothing was held back"


def test_a_family_that_is_dropped_is_given_back() -> None:
    allocator = Allocator()
    allocator.settle(claim(**DUAL), SMALL)
    allocator.settle(claim("a", "203.0.113.0", "2001:db8::"), SMALL)
    wanted = asking("2001:db8::", ip_families=("IPv6",))
    refused = allocator.settle(claim("b", **wanted), SMALL)
    assert refused.reason == "RequestNotAvailable", "the status of a still has it"
    allocator.confirm(("default", "a"))
    assert texts(allocator.settle(claim("b", **wanted), SMALL)) == ["2001:db8::"]


def test_a_request_is_met_exactly_or_not_at_all() -> None:
    allocator = Allocator()
    named = LabelSelector({"a": "b"})
    there = offered(
        pool("p", "203.0.113.0/31"),
        pool("other", "203.0.113.8", service_selector=named),
        pool("wrong", "203.0.113.16", "x"),
    )
    allocator.settle(claim("taken", **asking("203.0.113.1")), there)
    for wanted, says in (
        ("203.0.113.1", "203.0.113.1 is asked for, but Service default/taken has it"),
        ("203.0.113.8", "LoadBalancerPool other is not for this Service: its selectors do not match"),
        ("203.0.113.16", "LoadBalancerPool wrong cannot be used: spec.addresses[1]"),
        ("192.0.2.1", "192.0.2.1 is asked for, but is in no LoadBalancerPool"),
    ):
        outcome = allocator.settle(claim("a", **asking(wanted)), there)
        assert (texts(outcome), outcome.reason) == ([], "RequestNotAvailable")
        assert says in outcome.message
    assert texts(allocator.settle(claim("a"), there)) == ["203.0.113.0"]


def test_one_family_is_asked_for_and_the_other_given() -> None:
    allocator = Allocator()
    outcome = allocator.settle(claim(**asking("2001:db8::1", **DUAL)), SMALL)
    assert texts(outcome) == ["203.0.113.0", "2001:db8::1"]
    half = allocator.settle(claim("b", **asking("203.0.113.1", "2001:db8::1", **DUAL)), SMALL)
    assert texts(half) == [], "half of a request is no answer to it"


def test_a_request_that_changes_moves_the_service() -> None:
    allocator = Allocator()
    allocator.settle(claim(), SMALL)
    moved = allocator.settle(claim("a", "203.0.113.0", **asking("203.0.113.1")), SMALL)
    assert texts(moved) == ["203.0.113.1"]
    assert texts(allocator.settle(claim("b"), SMALL)) == [], "both are a's until its status is written"
    assert allocator.occupied(("default", "a")) == addresses("203.0.113.1", "203.0.113.0")
    allocator.confirm(("default", "a"))
    assert allocator.take_freed()
    assert texts(allocator.settle(claim("b"), SMALL)) == ["203.0.113.0"]


def test_who_shares_is_put_together() -> None:
    allocator = Allocator()
    mail = [claim(name, ports=(port,), annotations=KEY) for name, port in (("a", 25), ("b", 143), ("c", 25))]
    assert [texts(allocator.settle(each, SMALL)) for each in mail] == [
        ["203.0.113.0"],
        ["203.0.113.0"],
        ["203.0.113.1"],
    ]
    allocator.release(("default", "a"))
    assert texts(allocator.settle(claim("d"), SMALL)) == [], "b still has it"
    refused = allocator.settle(claim("e", ports=(143,), annotations=KEY | {ADDRESSES: "203.0.113.0"}), SMALL)
    assert "Service default/b has it and uses port 143/TCP, too" in refused.message


def test_sharing_that_ends_moves_the_younger() -> None:
    allocator = Allocator()
    old, young = claim("old", ports=(1,), annotations=KEY), claim("young", age=9, ports=(2,), annotations=KEY)
    assert texts(allocator.settle(young, SMALL)) == texts(allocator.settle(old, SMALL))
    allocator.settle(claim("old", "203.0.113.0", ports=(1, 2), annotations=KEY), SMALL)
    assert allocator.take_displaced() == {("default", "young")}
    moved = allocator.settle(claim("young", "203.0.113.0", age=9, ports=(2,), annotations=KEY), SMALL)
    assert texts(moved) == ["203.0.113.1"]
    assert moved.message == "203.0.113.1 given"
    assert moved.notes == ("203.0.113.0 was left to Service default/old, the older one",)


def test_an_address_outlives_its_pool_while_the_status_has_it() -> None:
    allocator = Allocator()
    allocator.settle(claim(), SMALL)
    later = offered(pool("q", "203.0.113.8/31"))
    kept = allocator.settle(claim("a", "203.0.113.0"), later)
    assert (texts(kept), kept.reason, kept.complete) == (["203.0.113.0"], "AddressKept", True)
    assert "203.0.113.0 is in no LoadBalancerPool any more; it is kept until" in kept.message
    assert texts(allocator.settle(claim(), later)) == ["203.0.113.8"]


def test_an_address_is_kept_when_its_pool_is_unusable_or_for_others() -> None:
    allocator = Allocator()
    allocator.settle(claim(), SMALL)
    unusable = allocator.settle(claim("a", "203.0.113.0"), offered(pool("p", "203.0.113.0/31", "x")))
    assert "LoadBalancerPool p, which cannot be used any more" in unusable.message
    others = offered(pool("p", "203.0.113.0/31", service_selector=LabelSelector({"a": "b"})))
    assert (
        "which is not for this Service any more"
        in allocator.settle(claim("a", "203.0.113.0"), others).message
    )


def test_a_new_allocator_goes_on_where_the_last_one_ended() -> None:
    allocator = Allocator()
    for known in (claim("a", "203.0.113.1"), claim("b", "203.0.113.0")):
        allocator.remember(known)
    assert texts(allocator.settle(claim("c", age=1), SMALL)) == []
    assert texts(allocator.settle(claim("b", "203.0.113.0"), SMALL)) == ["203.0.113.0"]


def test_of_two_of_one_family_the_one_from_a_pool_stays_else_the_first() -> None:
    for published, kept in (
        (("192.0.2.1", "203.0.113.1"), "203.0.113.1"),
        (("203.0.113.1", "192.0.2.1"), "203.0.113.1"),
        (("203.0.113.1", "203.0.113.0"), "203.0.113.1"),
        (("192.0.2.2", "192.0.2.1"), "192.0.2.2"),
    ):
        assert texts(Allocator().settle(claim("a", *published), SMALL)) == [kept]


def test_of_two_that_have_one_address_the_older_keeps_it() -> None:
    allocator = Allocator()
    old, young = claim("z", "203.0.113.0", age=1), claim("a", "203.0.113.0", age=2)
    for each in (young, old):
        allocator.remember(each)
    assert texts(allocator.settle(young, SMALL)) == ["203.0.113.1"]
    assert texts(allocator.settle(old, SMALL)) == ["203.0.113.0"]


def test_another_object_of_the_same_name_begins_anew() -> None:
    allocator = Allocator()
    allocator.settle(claim("a", **asking("203.0.113.1")), SMALL)
    fresh = replace(claim("a", age=5), uid="another")
    assert texts(allocator.settle(fresh, SMALL)) == ["203.0.113.0"]


def test_why_there_is_none() -> None:
    allocator = Allocator()
    selector = LabelSelector({"a": "b"})
    for there, says in (
        (offered(), "there is no LoadBalancerPool"),
        (offered(pool("p", "203.0.113.1", service_selector=selector)), "none is the default one"),
        (offered(pool("p", "2001:db8::/64")), "LoadBalancerPool p has no IPv4 addresses"),
        (offered(pool("p", "x")), "LoadBalancerPool p cannot be used: spec.addresses[0]: 'x' cannot be read"),
    ):
        outcome = allocator.settle(claim(), there)
        assert (outcome.addresses, outcome.reason) == ((), "NoPool") and says in outcome.message


def test_count_is_of_addresses_not_of_services() -> None:
    allocator = Allocator()
    for name, port in (("a", 1), ("b", 2)):
        allocator.settle(claim(name, ports=(port,), annotations=KEY, **DUAL), SMALL)
    assert [allocator.count(SMALL.known[0], version) for version in (4, 6)] == [1, 1]
    assert allocator.held(("default", "b")) == addresses("203.0.113.0", "2001:db8::")


def test_ten_thousand_services_are_served_in_linear_time() -> None:
    """A look from the first address of the pool for each of them would be fifty million looks."""
    allocator, there = Allocator(), offered(pool("p", "10.0.0.0/8", "2001:db8::/32"))
    began = time.process_time()
    for number in range(10_000):
        allocator.settle(claim(str(number), **DUAL), there)
    assert time.process_time() - began < 8
    assert str(allocator.held(("default", "9999"))[0]) == "10.0.39.15"


NAMING = ("default", "naming")


def test_external_addresses_are_given_to_nobody_until_they_are_named_no_more() -> None:
    allocator = Allocator()
    allocator.name_external(NAMING, addresses("203.0.113.0", "192.0.2.1"))
    assert texts(allocator.settle(claim("a"), SMALL)) == ["203.0.113.1"]
    waits = allocator.settle(claim("b"), SMALL)
    assert waits.reason == "PoolExhausted"
    refused = allocator.settle(claim("c", **asking("203.0.113.0")), SMALL)
    has = "Service default/naming has it in spec.externalIPs"
    assert (texts(refused), refused.message) == ([], f"203.0.113.0 is asked for, but {has}")
    assert not allocator.take_freed() and allocator.disputed(NAMING) == []
    allocator.name_external(NAMING, addresses("192.0.2.1"))
    assert allocator.take_freed()
    assert texts(allocator.settle(claim("b"), SMALL)) == ["203.0.113.0"]


def test_an_address_that_was_given_before_it_is_named_stays_and_is_disputed() -> None:
    allocator = Allocator()
    given = allocator.settle(claim("a"), SMALL)
    allocator.name_external(NAMING, given.addresses)
    assert allocator.settle(claim("a", "203.0.113.0"), SMALL) == given
    [(address, holder)] = allocator.disputed(NAMING)
    assert (str(address), holder.name) == ("203.0.113.0", "default/a")
    allocator.release(("default", "a"))
    assert allocator.disputed(NAMING) == []


def test_who_names_an_address_that_comes_to_be_anothers_is_looked_at_again() -> None:
    """As where another controller gives it."""
    allocator = Allocator()
    allocator.name_external(NAMING, addresses("203.0.113.0"))
    allocator.remember(claim("foreign", "203.0.113.0"))
    assert allocator.take_displaced() == {NAMING}
    allocator.remember(claim("foreign", "203.0.113.0"))
    assert allocator.take_displaced() == set(), "once"


def test_who_names_its_own_address_shares_it_as_others_do() -> None:
    allocator = Allocator()
    first = allocator.settle(claim("a", annotations=KEY), SMALL)
    allocator.name_external(("default", "a"), first.addresses)
    assert allocator.settle(claim("b", annotations=KEY, ports=(81,)), SMALL).addresses == first.addresses
    allocator.name_external(NAMING, first.addresses)
    assert texts(allocator.settle(claim("c", annotations=KEY, ports=(82,)), SMALL)) == ["203.0.113.1"]


def test_external_addresses_that_are_none_are_left_out() -> None:
    named = service(type="ClusterIP", external_ips=("203.0.113.0", "x", "fe80::1%eth0"))
    assert external_ips(named) == set(addresses("203.0.113.0"))
    assert external_ips(service()) == external_ips(None) == frozenset()
