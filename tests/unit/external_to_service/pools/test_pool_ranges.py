"""What a pool may name, and what is said of the rest."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tulle.external_to_service.pools.ranges import parse


@pytest.mark.parametrize(
    ("text", "first", "last", "size"),
    [
        ("203.0.113.0/28", "203.0.113.0", "203.0.113.15", 16),
        ("203.0.113.200-203.0.113.220", "203.0.113.200", "203.0.113.220", 21),
        ("203.0.113.1 - 203.0.113.1", "203.0.113.1", "203.0.113.1", 1),
        ("203.0.113.9", "203.0.113.9", "203.0.113.9", 1),
        ("203.0.113.9/32", "203.0.113.9", "203.0.113.9", 1),
        ("2001:db8::/64", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", 1 << 64),
        ("2001:DB8::0:1-2001:db8::ff", "2001:db8::1", "2001:db8::ff", 255),
        ("10.0.0.0/8", "10.0.0.0", "10.255.255.255", 1 << 24),
    ],
)
def test_what_can_be_read(text: str, first: str, last: str, size: int) -> None:
    found = parse(text)
    assert (found.first, found.last, found.size) == (ip_address(first), ip_address(last), size)
    assert found.first in found and found.last in found
    assert found.first - 1 not in found and found.last + 1 not in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("everything", "cannot be read; a CIDR such as 203.0.113.0/28 or a range such as"),
        ("203.0.113.0/33", "cannot be read"),
        ("203.0.113.256", "cannot be read"),
        ("203.0.113.1-203.0.113.2-203.0.113.3", "cannot be read"),
        ("203.0.113.1-", "cannot be read"),
        ("203.0.113.1-5", "cannot be read"),
        ("203.0.113.20-203.0.113.10", "ends before it begins; 203.0.113.10-203.0.113.20 may be meant"),
        ("203.0.113.1-2001:db8::1", "begins with IPv4 and ends with IPv6"),
        ("203.0.113.7/24", "within a network, not one; 203.0.113.0/24 may be meant"),
        ("2001:db8::1%eth0", "has a zone"),
        ("127.0.0.0/30", "127.0.0.0/8, which lead to no one machine"),
        ("223.255.255.255-224.0.0.1", "224.0.0.0/4"),
        ("0.0.0.0/0", "which lead to no one machine"),
        ("fe80::/64", "fe80::/10"),
        ("::1", "::/127"),
        ("::ffff:203.0.113.1", "::ffff:0:0/96"),
    ],
)
def test_what_cannot_be_right_is_named(text: str, says: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse(text)
    assert repr(text) in str(raised.value) and says in str(raised.value)


def test_overlaps_are_of_one_family() -> None:
    assert parse("203.0.113.0/28").overlaps(parse("203.0.113.15-203.0.113.20"))
    assert parse("203.0.113.0/24").overlaps(parse("203.0.113.9"))
    assert not parse("203.0.113.0/28").overlaps(parse("203.0.113.16"))
    assert not parse("0.0.0.1-1.0.0.0".replace("0.0.0.1", "1.0.0.0")).overlaps(parse("::100:0/128"))
