"""Names in configuration, and how names lie in each other. Wire names as in :mod:`tulle.dns.wire`. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from tulle.dns import wire

ROOT = b"\0"


def to_wire(text: str) -> bytes:
    """``kube-dns.svc`` or ``kube-dns.svc.`` as a lower-case wire name.

    Raises ``ValueError`` saying what is wrong. Escapes (``\\.``) are not taken.
    """
    if not text.removesuffix("."):
        if text == ".":
            return ROOT
        raise ValueError("an empty name cannot be right; the root is written '.'")
    if not text.isascii() or not text.isprintable() or any(c in text for c in ' \\"/:;{}'):
        raise ValueError(f"{text[:60]!r} is no domain name: it has a character that is not taken")
    return wire.name(text)


def suffixes(name: bytes) -> Iterator[bytes]:
    """The name and each of its parents up to the root, the longest first."""
    at = 0
    while name[at]:
        yield name[at:]
        at += 1 + name[at]
    yield ROOT


def within(name: bytes, zone: bytes) -> bool:
    """Whether the name is the zone or below it; both in lower case."""
    return zone == ROOT or (name.endswith(zone) and zone in suffixes(name))
