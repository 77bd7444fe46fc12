"""Nothing is given twice, whatever happens in which order: also when writes are lost and controllers die."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pool_objects import judged, pool, service

from tulle.external_to_service.pools.allocator import Allocator
from tulle.external_to_service.pools.claim import ADDRESSES, SHARE, Claim, claim_of
from tulle.external_to_service.pools.offer import offer
from tulle.model.address import Address
from tulle.model.selectors import LabelSelector

POOLS = (
    pool("a", "203.0.113.0/30", "2001:db8::/127"),
    pool("b", "203.0.113.4/31", default=False),
    pool("c", "203.0.113.6", service_selector=LabelSelector({"c": ""})),
    pool("overlapping", "203.0.113.0/29", age=1),
)
REQUESTS = ("", "", "203.0.113.0", "203.0.113.1,2001:db8::1", "203.0.113.5", "203.0.113.6", "192.0.2.1")
NAMES = "abcde"
INTENT = st.fixed_dictionaries(
    {
        "share": st.sampled_from(["", "", "x", "y"]),
        "ports": st.sampled_from([(80,), (81,), (80, 81)]),
        "local": st.booleans(),
        "request": st.sampled_from(REQUESTS),
        "families": st.sampled_from([("IPv4",), ("IPv6",), ("IPv4", "IPv6")]),
        "policy": st.sampled_from(["PreferDualStack", "RequireDualStack"]),
        "labels": st.sampled_from([{}, {"c": ""}]),
    }
)
Step = tuple[str, str, Any]
START = st.lists(INTENT, min_size=2, max_size=len(NAMES))
STEP = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), INTENT),
    st.tuples(st.just("request"), st.sampled_from(NAMES), st.sampled_from(REQUESTS)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.none()),
    st.tuples(st.just("settle"), st.sampled_from(NAMES), st.booleans()),
    st.tuples(st.just("settle"), st.sampled_from(NAMES), st.just(True)),
    st.tuples(st.just("pools"), st.none(), st.sets(st.sampled_from(range(len(POOLS))), min_size=1)),
    st.tuples(st.just("restart"), st.none(), st.none()),
)

SHARED = INTENT.map(lambda intent: intent | {"share": "x", "request": "", "families": ("IPv4",)})
CHANGE = st.one_of(STEP, st.tuples(st.just("change"), st.sampled_from(NAMES), SHARED))


@dataclass
class Cluster:
    """The API's Services, with their status, and a controller whose writes may be lost."""

    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    births: dict[str, int] = field(default_factory=dict)
    pools: set[int] = field(default_factory=lambda: set(range(len(POOLS))))
    allocator: Allocator = field(default_factory=Allocator)

    def claim(self, name: str) -> Claim:
        intent = self.intents[name]
        ips = map(str, self.status.get(name, ()))
        return claim_of(
            service(
                name,
                *ips,
                age=self.births[name],
                ports=intent["ports"],
                annotations={SHARE: intent["share"], ADDRESSES: intent["request"]},
                external_traffic_policy="Local" if intent["local"] else "Cluster",
                ip_families=intent["families"],
                ip_family_policy=intent["policy"],
            )
        )

    def populate(self, intents: list[dict[str, Any]]) -> None:
        """A Service of each."""
        for name, intent in zip(NAMES, intents, strict=False):
            self.step("write", name, intent)

    def step(self, what: str, name: str, argument: Any) -> None:
        if what == "write" and name not in self.intents:
            self.intents[name] = argument
            self.births[name] = max(self.births.values(), default=0) + 1
            self.settle(name)
        elif what == "request" and name in self.intents:
            self.intents[name] = self.intents[name] | {"request": argument}
            self.settle(name, written=False)
        elif what == "delete" and name in self.intents:
            del self.intents[name]
            self.status.pop(name, None)
            self.allocator.release(("default", name))
        elif what == "settle" and name in self.intents:
            self.settle(name, written=argument)
        elif what == "pools":
            self.pools = argument
        elif what == "restart":
            self.allocator = Allocator()
            for each in self.intents:
                self.allocator.remember(self.claim(each))

    def settle(self, name: str, written: bool = True) -> None:
        """``written``: the status, as decided, arrived at the API."""
        there = offer(judged(*(POOLS[each] for each in self.pools)), self.intents[name]["labels"], {})
        outcome = self.allocator.settle(self.claim(name), there)
        if written:
            self.status[name] = outcome.addresses
            self.allocator.confirm(("default", name))

    def conflicts(self) -> list[tuple[str, str]]:
        """Pairs of Services that have one address, and may not."""
        return [
            (one, other)
            for one, other in combinations(self.status, 2)
            if set(self.status[one]) & set(self.status[other])
            and not self.claim(one).may_share_with(self.claim(other))
        ]

    def calm(self) -> None:
        """All that has to be done is done: at most once more for each Service that was pushed aside."""
        for name in sorted(self.intents, key=lambda each: self.births[each]):
            self.settle(name)
        for _ in range(2 * len(self.intents)):
            for key in sorted(self.allocator.take_displaced()):
                if key[1] in self.intents:
                    self.settle(key[1])


@given(START, st.lists(STEP, min_size=5, max_size=30))
def test_no_address_is_ever_in_the_status_of_two_services(
    start: list[dict[str, Any]], steps: list[Step]
) -> None:
    cluster = Cluster()
    cluster.populate(start)
    for step in steps:
        cluster.step(*step)
        assert cluster.conflicts() == []


@given(st.lists(SHARED, min_size=3, max_size=5), st.lists(CHANGE, min_size=3, max_size=20))
def test_sharing_that_ends_is_mended(start: list[dict[str, Any]], steps: list[Step]) -> None:
    """Users may change ports, keys and policies of Services that have one address together."""
    cluster = Cluster()
    cluster.populate(start)
    for what, name, argument in steps:
        if what == "change" and name in cluster.intents:
            cluster.intents[name] = argument
        else:
            cluster.step(what, name, argument)
    cluster.calm()
    assert cluster.conflicts() == []


@given(START, st.lists(STEP, min_size=5, max_size=30))
def test_a_restart_changes_nothing(start: list[dict[str, Any]], steps: list[Step]) -> None:
    cluster = Cluster()
    cluster.populate(start)
    for step in steps:
        cluster.step(*step)
    cluster.calm()
    cluster.calm()
    before = dict(cluster.status)
    cluster.step("restart", "", None)
    cluster.calm()
    assert {name: set(each) for name, each in cluster.status.items()} == {
        name: set(each) for name, each in before.items()
    }


@given(START, st.lists(STEP, min_size=5, max_size=30))
def test_what_is_given_is_from_a_pool_and_as_asked(start: list[dict[str, Any]], steps: list[Step]) -> None:
    cluster = Cluster()
    cluster.populate(start)
    for what, name, argument in steps:
        if what != "pools":
            cluster.step(what, name, argument)
    cluster.calm()
    for name, there in cluster.status.items():
        claim = cluster.claim(name)
        versions = [address.version for address in there]
        assert set(versions) <= set(claim.versions) and len(set(versions)) == len(versions)
        if there:
            asked = {address.version: address for address in claim.requested}
            assert all(asked.get(address.version, address) == address for address in there)
            assert not claim.needs_all or len(there) == len(claim.versions)
