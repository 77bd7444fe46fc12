"""Messages as bytes: what is refused and how, what fits, and that no bytes do any harm (D-10, D-21)."""

from __future__ import annotations

import random
import struct

import pytest
from dns_cluster import answer, ask, catalog, endpoints, packet, service
from hypothesis import given
from hypothesis import strategies as st

from tulle.dns import wire
from tulle.dns.wire import Malformed, Section

NAME = b"\x03web\x07default\x03svc\x07cluster\x05local\0"
ASK = struct.pack("!HH", wire.A, wire.IN)


def raw(
    body: bytes = NAME + ASK, *, flags: int = wire.RD, counts: tuple[int, int, int, int] = (1, 0, 0, 0)
) -> bytes:
    return struct.pack("!HHHHHH", 7, flags, *counts) + body


def opt(size: int = 1232, version: int = 0, data: bytes = b"", owner: bytes = b"\0") -> bytes:
    return owner + struct.pack("!HHIH", wire.OPT, size, version << 16, len(data)) + data


WITH_OPT = (1, 0, 0, 1)
LONG = b"".join(b"\x3f" + b"a" * 63 for _ in range(4)) + b"\0"
REFUSED: list[tuple[str, bytes, int | None]] = [
    ("nothing", b"", None),
    ("less than a header", raw()[:11], None),
    ("an answer", raw(flags=wire.QR), None),
    ("another opcode", raw(flags=5 << 11), wire.NOTIMP),
    ("no question", raw(b"", counts=(0, 0, 0, 0)), wire.FORMERR),
    ("two questions", raw((NAME + ASK) * 2, counts=(2, 0, 0, 0)), wire.FORMERR),
    ("an answer record", raw(counts=(1, 1, 0, 0)), wire.FORMERR),
    ("an authority record", raw(counts=(1, 0, 1, 0)), wire.FORMERR),
    ("no name", raw(b""), wire.FORMERR),
    ("a name without end", raw(NAME[:-1]), wire.FORMERR),
    ("a label without end", raw(b"\x20abc"), wire.FORMERR),
    ("no type", raw(NAME), wire.FORMERR),
    ("half a class", raw(NAME + ASK[:3]), wire.FORMERR),
    ("a pointer in the question", raw(b"\xc0\x0c" + ASK), wire.FORMERR),
    ("a reserved label type", raw(b"\x40" + b"a" * 64 + b"\0" + ASK), wire.FORMERR),
    ("256 bytes of name", raw(LONG + ASK), wire.FORMERR),
    ("bytes behind the question", raw(NAME + ASK + b"x"), wire.FORMERR),
    ("half an OPT", raw(NAME + ASK + opt()[:-1], counts=WITH_OPT), wire.FORMERR),
    ("no OPT where one is counted", raw(counts=WITH_OPT), wire.FORMERR),
    ("two OPT", raw(NAME + ASK + opt() * 2, counts=(1, 0, 0, 2)), wire.FORMERR),
    ("an OPT with a name", raw(NAME + ASK + opt(owner=NAME), counts=WITH_OPT), wire.FORMERR),
    ("half an option", raw(NAME + ASK + opt(data=b"\0\x0a\0\x08abc"), counts=WITH_OPT), wire.FORMERR),
    ("very many records", raw(counts=(1, 0, 0, 65535)), wire.FORMERR),
    ("EDNS version 1", raw(NAME + ASK + opt(version=1), counts=WITH_OPT), wire.BADVERS),
    ("class CH", raw(NAME + struct.pack("!HH", wire.TXT, 3)), wire.REFUSED),
    ("class ANY", raw(NAME + struct.pack("!HH", wire.A, 255)), wire.REFUSED),
]


@pytest.mark.parametrize(("what", "data", "rcode"), REFUSED, ids=[each[0] for each in REFUSED])
def test_what_is_no_query_is_dropped_or_refused_in_few_bytes(
    what: str, data: bytes, rcode: int | None
) -> None:
    with pytest.raises(Malformed) as caught:
        wire.parse_query(data, wire.UDP_LIMIT)
    assert caught.value.rcode == rcode, what
    said = wire.rejection(data, caught.value)
    if rcode is None or said is None:
        assert rcode is said is None
        return
    assert said[:2] == data[:2] and said[2] & 0x80 and len(said) <= len(data) + 11
    extended = said[-6] << 4 if caught.value.edns else 0
    assert extended | said[3] & 0xF == rcode


@pytest.mark.parametrize(
    ("options", "limit", "size"),
    [
        (b"", wire.UDP_LIMIT, 512),
        (opt(100), wire.UDP_LIMIT, 512),
        (opt(800), wire.UDP_LIMIT, 800),
        (opt(65535), wire.UDP_LIMIT, 1232),
        (b"", wire.TCP_LIMIT, 65535),
        (opt(512), wire.TCP_LIMIT, 65535),
    ],
)
def test_d21_how_much_a_client_takes(options: bytes, limit: int, size: int) -> None:
    data = raw(NAME + ASK + options, counts=(1, 0, 0, bool(options)))
    query = wire.parse_query(data, limit)
    assert (query.size, query.edns) == (size, bool(options))


def test_the_longest_name_is_taken() -> None:
    name = b"".join(b"\x3f" + b"A" * 63 for _ in range(3)) + b"\x3d" + b"B" * 61 + b"\0"
    assert len(name) == 255
    query = wire.parse_query(raw(name + ASK), wire.UDP_LIMIT)
    assert query.asked == name and query.name == name.lower()


def test_other_additional_records_do_no_harm() -> None:
    key = b"\xc0\x0c" + struct.pack("!HHIH", 250, 255, 0, 3) + b"sig"
    query = wire.parse_query(raw(NAME + ASK + opt() + key, counts=(1, 0, 0, 2)), wire.UDP_LIMIT)
    assert query.edns


HEADLESS = catalog(
    service("default/big", "None"),
    endpoints("default/big", *(f"10.244.{n // 250}.{n % 250 + 1}" for n in range(1000)), ports=("p:TCP:1",)),
).zone


@pytest.mark.parametrize("qtype", ["A", "SRV"])
@pytest.mark.parametrize("size", [0, 600, 1232, 4096])
def test_d21_an_answer_is_cut_to_what_the_client_takes_and_says_so(qtype: str, size: int) -> None:
    name = "big.default.svc.cluster.local"
    data = packet(f"_p._tcp.{name}" if qtype == "SRV" else name, qtype, size=size)
    query = wire.parse_query(data, wire.UDP_LIMIT)
    whole = HEADLESS.answer(query)
    assert isinstance(whole, bytes)
    cut = wire.fit(whole, query)
    limit = min(max(size, 512), 1232)
    assert limit - 80 < len(cut) <= limit, "as much as there is room for, and no more"
    assert cut[2] & wire.TC >> 8
    _, answers, _, _ = answer(cut)
    assert len(answers) == struct.unpack_from("!H", cut, 6)[0] > 5
    assert cut.endswith(opt()) is bool(size)
    over_tcp = wire.parse_query(data, wire.TCP_LIMIT)
    assert wire.fit(HEADLESS.answer(over_tcp), over_tcp)[2] & wire.TC >> 8 == 0  # type: ignore[arg-type]


def test_d21_additional_records_that_do_not_fit_are_no_truncation() -> None:
    query = wire.parse_query(packet("a.b", "A"), wire.UDP_LIMIT)
    one = wire.record(wire.QUESTION_NAME, wire.A, 5, b"\1\2\3\4")
    whole = wire.message(query, 0, Section(1, one), additional=Section(40, one * 40))
    cut = wire.fit(whole, query)
    assert len(cut) <= 512 and not cut[2] & wire.TC >> 8
    assert struct.unpack_from("!HHH", cut, 6) == (1, 0, (512 - 21) // 16 - 1)


ZONE = catalog(service("default/web", "10.96.0.5"), service("default/out", external="x.example")).zone


def judge(data: bytes) -> None:
    """What the server does with a packet, without the sending."""
    try:
        query = wire.parse_query(data, wire.UDP_LIMIT)
    except Malformed as error:
        said = wire.rejection(data, error)
        assert said is None or len(said) <= len(data) + 11
        return
    found = ZONE.answer(query)
    if isinstance(found, bytes):
        sent = wire.fit(found, query)
        assert len(sent) <= query.size <= wire.UDP_LIMIT
        assert sent[12 : 12 + len(query.asked)] == query.asked
        answer(sent)


@given(st.binary(max_size=600))
def test_any_bytes_are_answered_or_dropped(data: bytes) -> None:
    judge(data)


SEEDS = [
    packet("web.default.svc.cluster.local", "A", size=1232),
    packet("10-1-2-3.default.pod.cluster.local", "AAAA"),
    packet("_p._tcp.web.default.svc.cluster.local", "SRV", size=512),
    packet("5.0.96.10.in-addr.arpa", "PTR"),
    raw(NAME + ASK + opt(data=b"\0\x0a\0\x08abcdefgh"), counts=WITH_OPT),
]


@given(st.sampled_from(SEEDS), st.integers(0, 2**32), st.integers(1, 8))
def test_changed_queries_are_answered_or_dropped(seed: bytes, dice: int, changes: int) -> None:
    chance, data = random.Random(dice), bytearray(seed)
    for _ in range(changes):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at] ^= 1 << chance.randrange(8)
            case 2:
                del data[at : at + chance.randrange(1, 9)]
            case _:
                data[at:at] = data[chance.randrange(len(data)) :][:16]
        data = data or bytearray(b"\0")
    judge(bytes(data))


def test_every_truncation_of_a_query_is_answered_or_dropped() -> None:
    for seed in SEEDS:
        for end in range(len(seed)):
            judge(seed[:end])


@pytest.mark.parametrize("text", ["a..b", "x" * 64, ".".join(["abcdefgh"] * 29)])
def test_texts_that_are_no_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must have"):
        wire.name(text)


def test_names_for_people() -> None:
    assert wire.text(wire.name("Foo.local.")) == "foo.local."
    assert wire.text(b"\0") == "."
    assert wire.text(b"\x03a.\x07\0") == "a\\046\\007."
    assert ask(ZONE, "out.default.svc.cluster.local", "A") is not None
