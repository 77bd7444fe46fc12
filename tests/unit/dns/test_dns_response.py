"""What is believed of an upstream's packet, and what is not."""

from __future__ import annotations

import struct

import pytest
import upstream_messages as m
from hypothesis import given
from hypothesis import strategies as st

from tulle.dns import wire
from tulle.dns.names import to_wire
from tulle.dns.outside.records import expand
from tulle.dns.outside.response import Untrusted, read

ASKED = m.question("example.com")
CNAME = (m.POINTER, wire.CNAME, 100, b"\x03www\xc0\x0c")


def test_an_answer_is_kept_as_long_as_its_shortest_record() -> None:
    found = read(m.answer(ASKED, [m.a(ttl=300), m.a("192.0.2.2", ttl=20)], [], [m.OPT]), ASKED)
    assert (found.rcode, found.counts, found.ttl, found.denial) == (0, (2, 0, 0), 20, False)
    assert found.body == m.record(m.a(ttl=300)) + m.record(m.a("192.0.2.2", ttl=20))
    assert [struct.unpack_from("!I", found.body, at)[0] for at in found.ttls] == [300, 20]


DENIALS = [
    ("no such name", wire.NXDOMAIN, [m.soa(ttl=600, minimum=60)], 60),
    ("no such data", wire.NOERROR, [m.soa(ttl=600, minimum=60)], 60),
    ("the SOA's own TTL is shorter", wire.NXDOMAIN, [m.soa(ttl=10, minimum=60)], 10),
    ("no SOA, so not to be kept (RFC 2308 section 5)", wire.NXDOMAIN, [], 0),
]


@pytest.mark.parametrize(("name", "rcode", "authority", "ttl"), DENIALS, ids=[row[0] for row in DENIALS])
def test_denials_are_kept_by_the_soa(name: str, rcode: int, authority: list[m.Record], ttl: int) -> None:
    found = read(m.answer(ASKED, [], authority, rcode=rcode), ASKED)
    assert (found.denial, found.ttl) == (True, ttl)


def test_a_cname_to_nothing_is_kept_by_the_soa_too() -> None:
    found = read(m.answer(ASKED, [CNAME], [m.soa(minimum=5)]), ASKED)
    assert (found.denial, found.ttl) == (False, 5)


@pytest.mark.parametrize("rcode", [wire.SERVFAIL, wire.REFUSED, wire.FORMERR])
def test_errors_are_not_kept(rcode: int) -> None:
    assert read(m.answer(ASKED, [m.a()], rcode=rcode), ASKED).ttl == 0


def test_a_ttl_with_its_top_bit_is_zero() -> None:
    assert read(m.answer(ASKED, [m.a(ttl=1 << 31)]), ASKED).ttl == 0


def test_what_stands_behind_opt_is_left_out() -> None:
    found = read(m.answer(ASKED, [m.a()], [], [m.a(), m.OPT, m.a()]) + b"junk", ASKED)
    assert found.counts == (1, 0, 1)
    assert found.body == m.record(m.a()) * 2


def test_an_extended_rcode_is_a_failure() -> None:
    badvers = (b"\0", wire.OPT, 1 << 24, b"")
    assert read(m.answer(ASKED, [], [], [badvers]), ASKED).rcode == wire.SERVFAIL


def test_other_capitals_in_the_question_are_the_same_question() -> None:
    assert read(m.answer(ASKED.upper()[:-4] + ASKED[-4:], [m.a()]), ASKED).counts == (1, 0, 0)


def test_a_truncated_answer_says_only_that() -> None:
    found = read(m.answer(ASKED, [m.a()], flags=wire.QR | wire.TC)[:-3], ASKED)
    assert found.truncated
    assert (found.counts, found.body) == ((0, 0, 0), b"")


def test_an_error_may_come_without_the_question() -> None:
    assert read(struct.pack("!HHHHHH", 1, wire.QR | wire.FORMERR, 0, 0, 0, 0), ASKED).rcode == wire.FORMERR


UNTRUSTED = [
    ("empty", b""),
    ("half a header", m.answer(ASKED)[:11]),
    ("too long", m.answer(ASKED) + bytes(65536)),
    ("a query", m.answer(ASKED, flags=wire.RD)),
    ("another opcode", m.answer(ASKED, flags=wire.QR | 0x2000)),
    ("another name", m.answer(m.question("example.org"), [m.a()])),
    ("another type", m.answer(m.question("example.com", wire.AAAA), [m.a()])),
    ("no question", struct.pack("!HHHHHH", 1, wire.QR, 0, 0, 0, 0)),
    ("a record cut off", m.answer(ASKED, [m.a()])[:-1]),
    ("a count too high", m.answer(ASKED, [m.a()])[:6] + b"\0\2" + m.answer(ASKED, [m.a()])[8:]),
    ("absurd counts", m.answer(ASKED)[:6] + b"\xff\xff" + m.answer(ASKED)[8:]),
    ("a pointer to itself", m.answer(ASKED, [m.a(owner=b"\xc0\x1d")])),
    ("a pointer ahead", m.answer(ASKED, [m.a(owner=b"\xc0\xff")])),
    ("a pointer into the header", m.answer(ASKED, [m.a(owner=b"\xc0\x02")])),
    ("a label of no kind", m.answer(ASKED, [m.a(owner=b"\x80")])),
    ("a name without end", m.answer(ASKED, [m.a(owner=b"\x3f" + b"a" * 63 * 5)])),
]


@pytest.mark.parametrize(("name", "data"), UNTRUSTED, ids=[row[0] for row in UNTRUSTED])
def test_what_is_not_believed(name: str, data: bytes) -> None:
    with pytest.raises(Untrusted):
        read(data, ASKED)


@given(st.binary(max_size=600))
def test_any_bytes_are_an_answer_or_untrusted(data: bytes) -> None:
    _read_all(data)


@given(st.binary(max_size=200), st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_any_records_behind_the_right_question(records: bytes, counts: list[int]) -> None:
    _read_all(struct.pack("!HHHHHH", 7, wire.QR, 1, *counts) + ASKED + records)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_one_wrong_byte_anywhere(place: int, value: int) -> None:
    whole = bytearray(m.answer(ASKED, [CNAME, m.a(owner=b"\xc0\x29")], [m.soa()], [m.OPT]))
    whole[place % len(whole)] = value
    _read_all(bytes(whole))


def _read_all(data: bytes) -> None:
    try:
        found = read(data, ASKED)
    except Untrusted:
        return
    assert len(found.body) <= len(data)
    assert all(0 <= at <= len(found.body) - 4 for at in found.ttls)
    whole = struct.pack("!HHHHHH", 0, found.flags, 1, *found.counts) + ASKED + found.body
    try:
        records = expand(whole)
    except Untrusted:
        return
    assert len(records) == sum(found.counts)
    assert all(len(one.owner) <= 255 and one.owner.endswith(b"\0") for one in records)


def test_records_are_taken_out_with_whole_names() -> None:
    whole = m.answer(ASKED, [CNAME, m.a(owner=b"\xc0\x29")], [m.soa()], [m.OPT])
    cname, address, soa = expand(whole)
    assert cname == (0, to_wire("example.com"), wire.CNAME, 100, to_wire("www.example.com"))
    assert address.owner == to_wire("www.example.com")
    assert (soa.section, soa.data) == (1, m.soa()[3])


LOOPS = [b"\xc0\x1d", b"\x01a\xc0\x1d", b"\xc0\xff", b"\xc0"]


@pytest.mark.parametrize("owner", LOOPS)
def test_names_that_have_no_end_are_untrusted(owner: bytes) -> None:
    with pytest.raises(Untrusted):
        expand(m.answer(ASKED, [m.a(owner=owner)]))
