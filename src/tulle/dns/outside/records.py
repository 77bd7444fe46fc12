"""Records of a message taken out of it, so that they can stand in another one. No I/O."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from tulle.dns import wire
from tulle.dns.outside.response import Untrusted

_HEADER = Struct("!HHHHHH")
_RECORD = Struct("!HHIH")
_MX, _DNAME = 15, 39
_BEFORE_NAME: Final = {wire.NS: 0, wire.CNAME: 0, wire.PTR: 0, _DNAME: 0, _MX: 2, wire.SRV: 6}
"""Bytes of data in front of the name; other types have no compressed names (RFC 3597, section 4)."""


class Record(NamedTuple):
    """One record with whole names; ``section`` is 0 answer, 1 authority, 2 additional."""

    section: int
    owner: bytes
    type: int
    ttl: int
    data: bytes

    def wire(self, owner: bytes | None = None) -> bytes:
        """The record as it stands in a message, at wish with another owner (or a pointer)."""
        return wire.record(self.owner if owner is None else owner, self.type, self.ttl, self.data)


def expand(whole: bytes) -> list[Record]:
    """All records but OPT. Raises ``Untrusted`` if a name has no end."""
    _, _, questions, *counts = _HEADER.unpack_from(whole)
    at = wire.QUESTION
    for _ in range(questions):
        at = _name(whole, at)[1] + 4
    found = []
    for section, count in enumerate(counts):
        for _ in range(count):
            owner, at = _name(whole, at)
            if at + 10 > len(whole):
                raise Untrusted("a record ends behind the message")
            rtype, _, ttl, length = _RECORD.unpack_from(whole, at)
            start, at = at + 10, at + 10 + length
            if rtype != wire.OPT:
                found.append(Record(section, owner, rtype, ttl, _data(whole, start, at, rtype)))
    return found


def _data(whole: bytes, start: int, end: int, rtype: int) -> bytes:
    if end > len(whole):
        raise Untrusted("a record's data ends behind the message")
    if rtype == wire.SOA:
        primary, at = _name(whole, start)
        mailbox, at = _name(whole, at)
        return primary + mailbox + whole[at:end]
    if rtype in _BEFORE_NAME:
        at = start + _BEFORE_NAME[rtype]
        return whole[start:at] + _name(whole, at)[0]
    return whole[start:end]


def _name(whole: bytes, at: int) -> tuple[bytes, int]:
    """(name, offset behind it). Each pointer must point before all that was read, so there is an end."""
    name, end, lowest = b"", 0, at
    while True:
        if at >= len(whole):
            raise Untrusted("a name ends behind the message")
        length = whole[at]
        if length >= 0xC0:
            target = int.from_bytes(whole[at : at + 2]) & 0x3FFF
            end = end or at + 2
            if target >= lowest or end > len(whole):
                raise Untrusted("a pointer does not point back")
            at = lowest = target
        elif length > 63 or len(name) + length >= 255:
            raise Untrusted("a name is too long")
        else:
            name += whole[at : at + 1 + length]
            at += 1 + length
            if not length:
                return name, end or at
