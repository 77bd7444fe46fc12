"""Which address a Pod gets: none that is taken, none is lost, a freed one comes last (N-01, N-19)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from tests.effort import effort

from tulle.errors import AddressError
from tulle.model.address import Address
from tulle.pod_to_pod.ipam import Ipam

SIZES = {"10.0.0.0/30": 2, "10.0.0.0/29": 6, "fd00::/127": 1, "fd00::/126": 3, "fd00::/64": 2**64 - 1}


def ipam(*cidrs: str) -> Ipam:
    return Ipam([ip_network(cidr) for cidr in cidrs])


def names(addresses: tuple[Address, ...]) -> list[str]:
    return [str(address) for address in addresses]


@pytest.mark.parametrize(("cidr", "size"), SIZES.items())
def test_size(cidr: str, size: int) -> None:
    assert ipam(cidr).available == size


def test_dual_stack_in_the_order_of_the_cidrs() -> None:
    assert names(ipam("10.0.0.0/24", "fd00::/64").allocate()) == ["10.0.0.1", "fd00::1"]
    assert names(ipam("fd00::/64", "10.0.0.0/24").allocate()) == ["fd00::1", "10.0.0.1"]


def test_circle() -> None:
    """What was freed comes back after all others had their turn."""
    pool = ipam("10.0.0.0/29")
    given = []
    for _ in range(8):
        addresses = pool.allocate()
        given += names(addresses)
        pool.free(addresses)
    assert given == [f"10.0.0.{n}" for n in (1, 2, 3, 4, 5, 6, 1, 2)]


def test_after_a_restart_the_circle_goes_on() -> None:
    pool = ipam("10.0.0.0/29")
    pool.take([ip_address("10.0.0.4")])
    assert names(pool.allocate()) == ["10.0.0.5"]


def test_addresses_of_other_cidrs_are_not_ours() -> None:
    pool = ipam("10.0.0.0/30")
    pool.take([ip_address("10.9.0.1"), ip_address("fd00::1")])
    assert pool.available == 2


def test_exhausted_names_the_cidr_and_takes_nothing() -> None:
    pool = ipam("10.0.0.0/24", "fd00::/127")
    first = pool.allocate()
    with pytest.raises(AddressError, match="fd00::/127 is exhausted: all 1 addresses"):
        pool.allocate()
    assert pool.available == 0
    pool.free(first)
    assert pool.available == 1
    assert pool.allocate()[1] == first[1]


@pytest.mark.parametrize(
    ("cidrs", "said"),
    [
        ((), "spec.podCIDRs holds nothing"),
        (("10.0.0.0/24", "10.0.1.0/24"), "10.0.0.0/24, 10.0.1.0/24"),
        (("10.0.0.0/32",), "10.0.0.0/32 holds no address"),
        (("10.0.0.0/31",), "10.0.0.0/31 holds no address"),
        (("fd00::/128",), "fd00::/128 holds no address"),
    ],
)
def test_cidrs_that_cannot_be_right(cidrs: tuple[str, ...], said: str) -> None:
    with pytest.raises(AddressError, match=said):
        ipam(*cidrs)


class AnyOrder(RuleBasedStateMachine):
    """Pods come and go and the agent restarts, against a set that knows who has what."""

    pods = Bundle("pods")

    def __init__(self) -> None:
        super().__init__()
        self.cidrs = ("10.0.0.0/28", "fd00::/125")
        self.ipam = ipam(*self.cidrs)
        self.held: set[Address] = set()

    @precondition(lambda self: len(self.held) < 2 * 7)
    @rule(target=pods)
    def connect(self) -> tuple[Address, ...]:
        addresses = self.ipam.allocate()
        assert [a.version for a in addresses] == [4, 6]
        assert self.held.isdisjoint(addresses)
        assert all(a in ip_network(c) for a, c in zip(addresses, self.cidrs, strict=True))
        self.held.update(addresses)
        return addresses

    @precondition(lambda self: len(self.held) == 2 * 7)
    @rule()
    def connect_one_too_many(self) -> None:
        with pytest.raises(AddressError):
            self.ipam.allocate()

    @rule(addresses=consumes(pods), again=st.booleans())
    def disconnect(self, addresses: tuple[Address, ...], again: bool) -> None:
        self.ipam.free(addresses)
        if again:
            self.ipam.free(addresses)
        self.held.difference_update(addresses)

    @rule(in_order=st.randoms(use_true_random=False))
    def restart(self, in_order: object) -> None:
        self.ipam = ipam(*self.cidrs)
        kept = sorted(self.held, key=str)
        in_order.shuffle(kept)  # type: ignore[attr-defined]
        self.ipam.take(kept)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.ipam.available == 7 - len(self.held) // 2


AnyOrder.TestCase.settings = effort(0.2, stateful_step_count=30)
TestAnyOrder = AnyOrder.TestCase
