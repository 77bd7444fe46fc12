"""DNS messages for the tests of forwarding, built by hand so that they can also be wrong."""

from __future__ import annotations

import struct

from tulle.dns import wire

Record = tuple[bytes, int, int, bytes]
"""Owner, type, TTL, data."""

POINTER = b"\xc0\x0c"


def question(name: str, qtype: int = wire.A) -> bytes:
    """As it stands in a message, class IN, in the capitals given."""
    labels = name.encode().split(b".")
    return b"".join(bytes([len(one)]) + one for one in labels) + b"\0" + struct.pack("!HH", qtype, wire.IN)


def query(
    name: str, qtype: int = wire.A, *, ident: int = 7, flags: int = wire.RD, edns: bool = False
) -> bytes:
    """A client's query."""
    options = b"\0" + struct.pack("!HHIH", wire.OPT, 4096, 0, 0) if edns else b""
    return struct.pack("!HHHHHH", ident, flags, 1, 0, 0, int(edns)) + question(name, qtype) + options


def parsed(name: str, qtype: int = wire.A, *, ident: int = 7, edns: bool = False) -> tuple[wire.Query, bytes]:
    """The same as the server gives it to the forwarder."""
    raw = query(name, qtype, ident=ident, edns=edns)
    return wire.parse_query(raw, wire.UDP_LIMIT), raw


def record(record: Record) -> bytes:
    """One record of class IN."""
    owner, rtype, ttl, data = record
    return owner + struct.pack("!HHIH", rtype, wire.IN, ttl, len(data)) + data


def a(address: str = "192.0.2.1", ttl: int = 300, owner: bytes = POINTER) -> Record:
    """An A record for the name in the question."""
    return owner, wire.A, ttl, bytes(int(part) for part in address.split("."))


def soa(ttl: int = 600, minimum: int = 60, owner: bytes = POINTER) -> Record:
    """An SOA record with the shortest names."""
    return owner, wire.SOA, ttl, b"\0\0" + struct.pack("!5I", 1, 2, 3, 4, minimum)


OPT: Record = (b"\0", wire.OPT, 0, b"")


def answer(
    asked: bytes,
    answers: list[Record] | None = None,
    authority: list[Record] | None = None,
    additional: list[Record] | None = None,
    *,
    ident: int = 0,
    flags: int = wire.QR | wire.RD | wire.RA,
    rcode: int = 0,
) -> bytes:
    """An upstream's answer to the question ``asked``."""
    sections = [answers or [], authority or [], additional or []]
    counts = [len(section) for section in sections]
    records = b"".join(record(one) for section in sections for one in section)
    return struct.pack("!HHHHHH", ident, flags | rcode, 1, *counts) + asked + records
