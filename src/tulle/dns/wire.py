"""DNS messages as bytes: queries are checked and read, answers are put together (RFC 1035, 6891).

Names are in wire format throughout: ``b"\\x03foo\\x05local\\x00"``. A length is at most 63 and so never a
capital letter, which makes ``bytes.lower()`` safe on a whole name.
"""

from __future__ import annotations

from struct import Struct

import msgspec

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

QR, OPCODE, AA, TC, RD, RA, CD = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
DO = 0x8000
"""In the low half of OPT's TTL field."""

UDP_LIMIT = 1232
"""What we advertise and never exceed over UDP: fits every path of IPv6, so no answer is ever a fragment."""

UDP_PLAIN = 512
"""What any client takes over UDP, in bytes (RFC 1035 section 4.2.1)."""

TCP_LIMIT = 65535

QUESTION = 12
"""Where the question begins, in bytes."""

QUESTION_NAME = b"\xc0\x0c"
"""A pointer to the name in the question, as the client wrote it (D-10)."""

RECORD_HEAD = 12
"""Bytes before the data of a record whose owner is a pointer."""

MAX_ADDITIONAL = 16
"""More records than this in a query's additional section are nothing that a resolver sends."""

_HEADER = Struct("!HHHHHH")
_TYPE_CLASS = Struct("!HH")
_RECORD = Struct("!HHIH")


class Malformed(ValueError):
    """A packet that is not a query we can answer.

    ``rcode`` is what to answer with, None if it must be dropped. ``question_end`` is the offset behind
    the question, 0 if that could not be read; ``edns`` says that the answer needs an OPT record.
    """

    def __init__(self, rcode: int | None, question_end: int = 0, *, edns: bool = False) -> None:
        super().__init__("dropped" if rcode is None else f"rejected with rcode {rcode}")
        self.rcode = rcode
        self.question_end = question_end
        self.edns = edns


class Query(msgspec.Struct, frozen=True, gc=False):
    """A well-formed query with one question of class IN.

    ``name`` is the name in lower case, ``asked`` the same as it was sent. ``size`` is the longest answer that
    may be sent, in bytes. ``question_length`` is that of name, type and class in bytes.
    """

    id: int
    flags: int
    name: bytes
    asked: bytes
    type: int
    klass: int
    size: int
    edns: bool
    do: bool
    question_length: int


def parse_query(data: bytes, size_limit: int) -> Query:
    """Reads one query; ``size_limit`` is UDP_LIMIT or TCP_LIMIT.

    Raises :class:`Malformed` for everything else. Answers (QR set) and what has no whole header are dropped,
    so that two servers never talk to each other.
    """
    if len(data) < QUESTION:
        raise Malformed(None)
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & QR:
        raise Malformed(None)
    if flags & OPCODE:
        raise Malformed(NOTIMP)
    if questions != 1 or answers or authorities or additional > MAX_ADDITIONAL:
        raise Malformed(FORMERR)
    name_end = _plain_name_end(data)
    end = name_end + 4
    if len(data) < end:
        raise Malformed(FORMERR)
    qtype, klass = _TYPE_CLASS.unpack_from(data, name_end)
    size, options = (UDP_PLAIN if size_limit < TCP_LIMIT else TCP_LIMIT), None
    if additional or len(data) != end:
        options = _options(data, end, additional)
    if options is not None:
        size = max(size, min(options[0], size_limit))
        if options[1] >> 16 & 0xFF:
            raise Malformed(BADVERS, end, edns=True)
    if klass != IN:
        raise Malformed(REFUSED, end, edns=options is not None)
    asked = data[QUESTION:name_end]
    do = options is not None and bool(options[1] & DO)
    return Query(
        ident, flags, asked.lower(), asked, qtype, klass, size, options is not None, do, end - QUESTION
    )


def _plain_name_end(data: bytes) -> int:
    """The offset behind the question's name, which must be whole, without pointers, and at most 255 bytes."""
    at, total = QUESTION, len(data)
    while at < total:
        length = data[at]
        if length == 0:
            if at - QUESTION >= 255:
                raise Malformed(FORMERR)
            return at + 1
        if length > 63:
            raise Malformed(FORMERR)
        at += length + 1
    raise Malformed(FORMERR)


def _options(data: bytes, at: int, count: int) -> tuple[int, int] | None:
    """(UDP size, extended flags) of the one OPT record behind the question, None without one."""
    found, question_end = None, at
    for _ in range(count):
        is_root = data[at : at + 1] == b"\0"
        at = skip_name(data, at)
        if len(data) < at + 10:
            raise Malformed(FORMERR, question_end)
        rtype, klass, ttl, length = _RECORD.unpack_from(data, at)
        at += 10 + length
        if len(data) < at:
            raise Malformed(FORMERR, question_end)
        if rtype == OPT:
            if found is not None or not is_root or not _tiled(data[at - length : at]):
                raise Malformed(FORMERR, question_end)
            found = klass, ttl
    if at != len(data):
        raise Malformed(FORMERR, question_end)
    return found


def _tiled(options: bytes) -> bool:
    """Whether an OPT record's data is a sequence of whole options (RFC 6891 section 6.1.2)."""
    at = 0
    while at + 4 <= len(options):
        at += 4 + int.from_bytes(options[at + 2 : at + 4])
    return at == len(options)


def skip_name(data: bytes, at: int) -> int:
    """The offset behind a name that may end in a pointer; Malformed if it is not whole."""
    start = at
    while at < len(data) and at - start < 255:
        length = data[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > 63:
            break
        at += length + 1
    raise Malformed(FORMERR)


def rejection(data: bytes, error: Malformed) -> bytes | None:
    """The answer to a packet that ``parse_query`` refused: at most the packet and one OPT record."""
    if error.rcode is None:
        return None
    ident, flags, *_ = _HEADER.unpack_from(data)
    has_question = bool(error.question_end)
    header = _HEADER.pack(
        ident, QR | flags & (OPCODE | RD | CD) | error.rcode & 0xF, has_question, 0, 0, error.edns
    )
    question = data[QUESTION : error.question_end] if has_question else b""
    return header + question + (_opt(error.rcode, False) if error.edns else b"")


def _opt(rcode: int, do: bool) -> bytes:
    return b"\0" + _RECORD.pack(OPT, UDP_LIMIT, rcode >> 4 << 24 | (DO if do else 0), 0)


_OPT = {do: _opt(0, do) for do in (False, True)}


class Section(msgspec.Struct, frozen=True, gc=False):
    """Records of one section, one behind the other; every one is whole without its neighbours."""

    count: int = 0
    records: bytes = b""


EMPTY = Section()


def message(
    query: Query,
    rcode: int,
    answer: Section = EMPTY,
    authority: Section = EMPTY,
    additional: Section = EMPTY,
    *,
    authoritative: bool = True,
) -> bytes:
    """A whole answer, question as sent, OPT if the client sent one; ``query.size`` is for ``fit``."""
    flags = QR | RA | query.flags & (RD | CD) | rcode
    if authoritative:
        flags |= AA
    question = query.asked + _TYPE_CLASS.pack(query.type, query.klass)
    counts = answer.count, authority.count, additional.count + query.edns
    whole = _HEADER.pack(query.id, flags, 1, *counts) + question
    whole += answer.records + authority.records + additional.records
    return whole + _OPT[query.do] if query.edns else whole


def fit(whole: bytes, query: Query) -> bytes:
    """``whole``, or as many of its records as the client takes; TC if an answer or authority is missing.

    What fits is kept, for resolvers that never ask again over TCP. Additional records that do not fit are
    left out in silence (RFC 2181 section 9); OPT always stays.
    """
    if len(whole) <= query.size:
        return whole
    room = query.size - (len(_OPT[query.do]) if query.edns else 0)
    ident, flags, questions, *sections = _HEADER.unpack_from(whole)
    at = kept = QUESTION + query.question_length
    counts = [0, 0, 0]
    options = b""
    full = False
    for section, count in enumerate(sections):
        for _ in range(count):
            start, at, rtype = _next_record(whole, at)
            if rtype == OPT:
                options = whole[start:at]
                continue
            full = full or at > room
            if not full:
                counts[section], kept = counts[section] + 1, at
            elif section < 2:
                flags |= TC
    if query.edns and len(options) != len(_OPT[query.do]):
        options = _OPT[query.do]
    header = _HEADER.pack(ident, flags, questions, counts[0], counts[1], counts[2] + query.edns)
    return header + whole[QUESTION:kept] + (options if query.edns else b"")


def _next_record(whole: bytes, at: int) -> tuple[int, int, int]:
    """(start, end, type) of the record at ``at``."""
    data_at = skip_name(whole, at)
    rtype, _, _, length = _RECORD.unpack_from(whole, data_at)
    return at, data_at + 10 + length, rtype


def record(owner: bytes, rtype: int, ttl: int, data: bytes) -> bytes:
    """One record of class IN; ``owner`` is a name or a pointer, ``ttl`` in seconds."""
    return owner + _RECORD.pack(rtype, IN, ttl, len(data)) + data


def name(text: str) -> bytes:
    """``foo.local`` or ``foo.local.`` in wire format, lower case; ValueError says what is wrong with it."""
    labels = text.rstrip(".").encode("ascii", "strict").lower().split(b".") if text.strip(".") else []
    if any(not 0 < len(label) < 64 for label in labels):
        raise ValueError(f"{text}: each label must have 1 to 63 characters")
    wire = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(wire) > 255:
        raise ValueError(f"{text}: must have at most 253 characters")
    return wire


def labels(wire: bytes) -> list[bytes]:
    """The labels of a whole name without pointers."""
    found, at = [], 0
    while wire[at]:
        found.append(wire[at + 1 : at + 1 + wire[at]])
        at += wire[at] + 1
    return found


def text(wire: bytes) -> str:
    """A name for people: ``foo.local.``, odd bytes as ``\\ddd``."""
    shown = (
        "".join(chr(c) if 32 < c < 127 and c not in b".\\" else f"\\{c:03d}" for c in label)
        for label in labels(wire)
    )
    return ".".join((*shown, "")) if wire != b"\0" else "."
