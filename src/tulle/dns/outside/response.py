"""What an upstream sent, checked before anything of it is used. No I/O.

Nothing from the network is trusted: the question must be ours, every record must lie within the message, and
pointers must point back. What the records say is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from tulle.dns import wire

AD = 0x0020
_HEADER = Struct("!HHHHHH")
_RECORD = Struct("!HHIH")
_SHORTEST_SOA = 22  # bytes: two names of one byte, five numbers
_MOST_RECORDS = 4096  # more do not fit into 64 KiB in any way that is useful
_ERRORS_WITHOUT_QUESTION = (wire.FORMERR, wire.NOTIMP, wire.REFUSED, wire.SERVFAIL)


class Untrusted(ValueError):
    """A packet that is no answer to the question asked, or no whole message."""


class Response(NamedTuple):
    """An answer without id, question, OPT, and whatever stood behind its records.

    ``counts`` are those of answer, authority and additional. ``ttls`` are the offsets of the TTL fields in
    ``body``. ``ttl`` is how long it may be kept, in seconds, 0 for not at all (RFC 2308: a denial without
    SOA); ``denial`` says that there is no such name or no such data.
    """

    rcode: int
    flags: int
    counts: tuple[int, int, int]
    body: bytes
    ttls: tuple[int, ...]
    ttl: int
    denial: bool

    @property
    def truncated(self) -> bool:
        """TC: the whole answer is to be had over TCP."""
        return bool(self.flags & wire.TC)


class _Record(NamedTuple):
    start: int
    section: int
    type: int
    ttl_at: int
    ttl: int
    end: int
    length: int


def read(data: bytes, question: bytes) -> Response:
    """Checks the answer to ``question`` (name in lower case, type, class). Raises ``Untrusted``.

    The id is the caller's to check. An upstream may spell the name in other capitals than it was asked.
    """
    if not 12 <= len(data) <= wire.TCP_LIMIT:
        raise Untrusted("it is too short or too long for a DNS message")
    _, flags, questions, *counts = _HEADER.unpack_from(data)
    if not flags & wire.QR or flags & wire.OPCODE:
        raise Untrusted("it is no answer to a query")
    rcode = flags & 0xF
    if not questions and rcode in _ERRORS_WITHOUT_QUESTION and len(data) == 12:
        return Response(rcode, flags, (0, 0, 0), b"", (), 0, False)
    start = wire.QUESTION + len(question)
    if questions != 1 or data[wire.QUESTION : start].lower() != question.lower():
        raise Untrusted("its question is another one")
    if flags & wire.TC:
        return Response(rcode, flags, (0, 0, 0), b"", (), 0, False)
    return _body(data, start, flags, counts)


def _body(data: bytes, start: int, flags: int, counts: list[int]) -> Response:
    rcode, end = flags & 0xF, start
    kept = [0, 0, 0]
    ttls: list[int] = []
    least: int | None = None
    soa = False
    for record in _records(data, start, counts):
        if record.type == wire.OPT:
            if record.ttl >> 24:
                rcode = wire.SERVFAIL  # BADVERS and the like are between the upstream and us
            break  # what stands behind it is additional, and its pointers would be wrong without it
        ttl = record.ttl if record.ttl < 1 << 31 else 0  # RFC 2181, section 8
        if record.type == wire.SOA and record.section == 1 and record.length >= _SHORTEST_SOA:
            soa = True
            ttl = min(ttl, int.from_bytes(data[record.end - 4 : record.end]))  # RFC 2308, section 5
        least = ttl if least is None else min(least, ttl)
        ttls.append(record.ttl_at - start)
        kept[record.section] += 1
        end = record.end
    denial = rcode == wire.NXDOMAIN or (rcode == wire.NOERROR and not kept[0])
    keepable = rcode in (wire.NOERROR, wire.NXDOMAIN) and (soa or not denial)
    lasting = (least or 0) if keepable else 0
    return Response(rcode, flags, (kept[0], kept[1], kept[2]), data[start:end], tuple(ttls), lasting, denial)


def _records(data: bytes, at: int, counts: list[int]) -> Iterator[_Record]:
    """All records, each within the message; ``Untrusted`` at the first that is not."""
    if sum(counts) > _MOST_RECORDS:
        raise Untrusted("it claims more records than a message has room for")
    for section, count in enumerate(counts):
        for _ in range(count):
            start, at = at, _skip_name(data, at)
            if at + 10 > len(data):
                raise Untrusted("a record ends behind the message")
            rtype, _, ttl, length = _RECORD.unpack_from(data, at)
            end = at + 10 + length
            if end > len(data):
                raise Untrusted("a record's data ends behind the message")
            yield _Record(start, section, rtype, at + 4, ttl, end, length)
            at = end


def _skip_name(data: bytes, start: int) -> int:
    """The offset behind the name. A pointer must point back, into what was looked at before."""
    try:
        end = wire.skip_name(data, start)
    except wire.Malformed:
        raise Untrusted("a name is not whole") from None
    if end > len(data):
        raise Untrusted("a name ends behind the message")
    if end - start >= 2 and data[end - 2] >= 0xC0:
        target = int.from_bytes(data[end - 2 : end]) & 0x3FFF
        if not wire.QUESTION <= target < start:
            raise Untrusted("a pointer does not point back")
    return end
