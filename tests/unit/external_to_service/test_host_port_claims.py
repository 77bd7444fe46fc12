"""Whose the ports of a node are: when two Pods may share a number, and when not (N-10)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tulle.external_to_service.host_port_claims import Claims, Entry, entries
from tulle.model.host_ports import HostPort

V4, V6 = ip_address("10.244.1.2"), ip_address("fd00:244:1::2")
ONE, TWO, THREE = ("c1", "eth0"), ("c2", "eth0"), ("c3", "eth0")


def port(host_ip: str = "", number: int = 80, protocol: str = "TCP") -> HostPort:
    return HostPort(number, 8080, protocol, host_ip)


@pytest.mark.parametrize(
    ("host_ip", "expected"),
    [
        ("", {"0.0.0.0": V4, "::": V6}),
        ("0.0.0.0", {"0.0.0.0": V4}),
        ("::", {"::": V6}),
        ("10.0.0.1", {"10.0.0.1": V4}),
        ("127.0.0.1", {"127.0.0.1": V4}),
        ("fd00::1", {"fd00::1": V6}),
    ],
)
def test_ways_in(host_ip: str, expected: dict[str, object]) -> None:
    found = entries(port(host_ip), (V4, V6))
    assert {str(each.address): each.pod for each in found} == expected
    assert all((e.port, e.protocol, e.pod_port) == (80, "TCP", 8080) for e in found)
    assert [e.everywhere for e in found] == [str(e.address) in ("0.0.0.0", "::") for e in found]


def test_a_family_that_the_pod_lacks_has_no_way_in() -> None:
    assert entries(port("::"), (V4,)) == ()
    assert [str(e.address) for e in entries(port(), (V4,))] == ["0.0.0.0"]


def collide(one: HostPort, two: HostPort, first: tuple[object, ...] = (V4, V6)) -> bool:
    claims = Claims()
    claims.take(ONE, entries(one, first))  # type: ignore[arg-type]
    return claims.holder(TWO, entries(two, (V4, V6))) == ONE


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (port(), port(), True),
        (port(), port(number=81), False),
        (port(), port(protocol="UDP"), False),
        (port(protocol="SCTP"), port(protocol="SCTP"), True),
        (port("10.0.0.1"), port("10.0.0.1"), True),
        (port("10.0.0.1"), port("10.0.0.2"), False),
        (port("10.0.0.1"), port("0.0.0.0"), True),
        (port("10.0.0.1"), port(""), True),
        (port("10.0.0.1"), port("::"), False),
        (port("127.0.0.1"), port("0.0.0.0"), True),
        (port("127.0.0.1"), port("10.0.0.1"), False),
        (port("0.0.0.0"), port("::"), False),
        (port("0.0.0.0"), port(""), True),
        (port("fd00::1"), port("::"), True),
        (port("fd00::1"), port("fd00::2"), False),
        (port("fd00::1"), port("0.0.0.0"), False),
    ],
)
def test_collisions(one: HostPort, two: HostPort, expected: bool) -> None:
    assert collide(one, two) is collide(two, one) is expected


def test_families_are_those_of_the_pod() -> None:
    """A Pod with IPv4 alone leaves the IPv6 side of the port to others."""
    assert not collide(port(), port("::"), first=(V4,))
    assert collide(port(), port("0.0.0.0"), first=(V4,))


def test_an_owner_does_not_collide_with_itself() -> None:
    claims = Claims()
    claims.take(ONE, entries(port(), (V4, V6)))
    assert claims.holder(ONE, entries(port("10.0.0.1"), (V4, V6))) is None


def test_a_port_is_free_again_when_it_is_given_up() -> None:
    claims, held = Claims(), entries(port("10.0.0.1"), (V4,))
    claims.take(ONE, held)
    claims.give_up(TWO, held)  # not theirs
    assert claims.holder(TWO, held) == ONE
    for _ in range(2):
        claims.give_up(ONE, held)
    assert claims.holder(TWO, held) is None


def test_several_single_addresses_each_have_their_own_holder() -> None:
    claims = Claims()
    claims.take(ONE, entries(port("10.0.0.1"), (V4,)))
    claims.take(TWO, entries(port("10.0.0.2"), (V4,)))
    assert claims.holder(THREE, entries(port("10.0.0.2"), (V4,))) == TWO
    assert claims.holder(THREE, entries(port("10.0.0.3"), (V4,))) is None
    claims.give_up(ONE, entries(port("10.0.0.1"), (V4,)))
    assert claims.holder(THREE, entries(port(), (V4,))) == TWO


def test_entries_are_values() -> None:
    assert entries(port(), (V4,)) == (Entry(ip_address("0.0.0.0"), 80, "TCP", V4, 8080),)
