"""The resolver outside the cluster: what it answers, and that nothing malformed troubles it."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from tulle.lab.resolver import AAAA, ANY, CNAME, SOA, A, answer, records

KNOWN = records([ip_address("203.0.113.10"), ip_address("2001:db8:ffff::10")])
MX = 15


def query(name: str, kind: int, flags: int = 0x0100, count: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    return struct.pack("!6H", 7, flags, count, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def codes(reply: bytes | None) -> tuple[int, bool, int, int]:
    """Response code, whether it is cut, number of answers and of records of authority."""
    assert reply is not None
    number, flags, _, answers, authority, _ = struct.unpack_from("!6H", reply)
    assert number == 7
    assert flags & 0x8080 == 0x8080
    return flags & 15, bool(flags & 0x0200), answers, authority


@pytest.mark.parametrize(
    ("name", "kind", "most", "expected"),
    [
        ("world.example", A, 512, (0, False, 1, 0)),
        ("World.EXAMPLE", AAAA, 512, (0, False, 1, 0)),
        ("world.example", ANY, 512, (0, False, 2, 0)),
        ("world.example", MX, 512, (0, False, 0, 1)),
        ("www.world.example", A, 512, (0, False, 2, 0)),
        ("www.world.example", CNAME, 512, (0, False, 1, 0)),
        ("many.world.example", A, 512, (0, True, 0, 0)),
        ("many.world.example", A, 65535, (0, False, 40, 0)),
        ("example", A, 512, (0, False, 0, 1)),
        ("", SOA, 512, (0, False, 0, 1)),
        ("no.world.example", A, 512, (3, False, 0, 1)),
        ("web.default.svc.cluster.local", A, 512, (3, False, 0, 1)),
    ],
)
def test_answers(name: str, kind: int, most: int, expected: tuple[int, bool, int, int]) -> None:
    asked = query(name, kind)
    reply = answer(asked, KNOWN, most)
    assert codes(reply) == expected
    assert reply is not None
    assert reply[12 : len(asked)] == asked[12:]


def test_addresses_are_those_of_world() -> None:
    for kind, address in ((A, "203.0.113.10"), (AAAA, "2001:db8:ffff::10")):
        reply = answer(query("www.world.example", kind), KNOWN, 512)
        assert reply is not None
        assert reply.endswith(ip_address(address).packed)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", None),
        (b"x" * 11, None),
        (query("a", A, flags=0x8100), None),
        (query("a", A, count=0), 1),
        (query("a", A, count=2), 1),
        (query("a", A)[:-1], 1),
        (query("a", A)[:12] + b"\xc0\x0c\0\1\0\1", 1),
        (query("a", A)[:12] + b"\x3fabc", 1),
        (query("a", A, flags=0x2800), 4),
        (query("world.example", A, flags=0x0300), 0),
    ],
)
def test_what_is_odd_or_no_query(data: bytes, code: int | None) -> None:
    reply = answer(data, KNOWN, 512)
    assert (None if reply is None else codes(reply)[:2]) == (None if code is None else (code, False))
