"""Which addresses can be a frontend or a backend, and what is wrong with the others. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

from tulle.model.address import from_bytes, is_ipv4, parse_lenient, to_bytes

_SPECIAL = {
    4: [
        ip_network(n)
        for n in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32")
    ],
    6: [ip_network(n) for n in ("::/128", "::1/128", "fe80::/10", "ff00::/8")],
}
"""What means something else on each machine, or many machines at once; the API refuses it, too."""
_TELLING = {4: 12, 6: 0}
"""The first byte of an address within its 16, by family."""
_SUSPECT = {
    family: frozenset(
        byte
        for n in networks
        for byte in range(n.network_address.packed[0], n.broadcast_address.packed[0] + 1)
    )
    for family, networks in _SPECIAL.items()
}
"""What the first byte of a special address can be: all others need no closer look."""


LOOPBACK = {4: to_bytes(IPv4Address("127.0.0.1")), 6: to_bytes(IPv6Address("::1"))}


def family_of(raw: bytes) -> int:
    """4 or 6."""
    return 4 if is_ipv4(raw) else 6


def read_address(text: str, wanted: int | None = None) -> tuple[bytes, str]:
    """The 16 bytes of an address, of family ``wanted`` if that is given, or else why it is none."""
    raw = parse_lenient(text)
    if raw is None:
        return b"", f"{text!r} is no IP address"
    family = family_of(raw)
    if wanted is not None and family != wanted:
        return b"", f"{text!r} is not an IPv{wanted} address"
    if raw[_TELLING[family]] in _SUSPECT[family] and any(from_bytes(raw) in n for n in _SPECIAL[family]):
        return b"", f"{text!r} is unspecified, loopback, link-local or multicast, and leads to no one machine"
    return raw, ""
