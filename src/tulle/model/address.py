"""Addresses: the names that the rest of Tulle uses for them, and their one form in the kernel's maps."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from socket import AF_INET, AF_INET6, inet_pton

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

_MAPPED_PREFIX = bytes(10) + b"\xff\xff"
_MAPPED_BITS = 96


def to_bytes(address: Address) -> bytes:
    """16 bytes, an IPv4 address as ``::ffff:a.b.c.d`` (``struct address`` in ``bpf/contract.h``)."""
    return address.packed if address.version == 6 else _MAPPED_PREFIX + address.packed


def from_bytes(raw: bytes) -> Address:
    """The inverse of ``to_bytes``."""
    return IPv4Address(raw[12:]) if raw.startswith(_MAPPED_PREFIX) else IPv6Address(raw)


def mapped_length(network: Network) -> int:
    """The prefix length among 128 bits: an IPv4 ``/24`` counts as 120."""
    return network.prefixlen + (_MAPPED_BITS if network.version == 4 else 0)


def from_mapped(raw: bytes, length: int) -> Network:
    """The network of 16 bytes and a prefix length among 128 bits."""
    address = from_bytes(raw)
    return ip_network((address.packed, length - (_MAPPED_BITS if address.version == 4 else 0)))


def host_network(address: Address) -> Network:
    """The network that holds this one address: ``/32`` or ``/128``."""
    return ip_network(address)


def parse_lenient(text: str) -> bytes | None:
    """The 16 bytes of an address as users and old API servers write it, or None where it is none (S-13).

    Takes leading zeros (decimal, as Kubernetes does), and an IPv4 address that is mapped into IPv6 for
    what it is. The form that everyone writes costs one call of libc.
    """
    try:
        return _MAPPED_PREFIX + inet_pton(AF_INET, text) if ":" not in text else inet_pton(AF_INET6, text)
    except (OSError, ValueError):
        return _parse_slowly(text)


def parse_network_lenient(text: str) -> Network | None:
    """A CIDR as users write it, or None where it is none: also with blanks around it, and with bits set
    that the prefix does not cover (S-13).
    """
    address, slash, digits = text.strip().partition("/")
    raw = parse_lenient(address)
    if raw is None or not slash or not (digits.isascii() and digits.isdecimal()):
        return None
    found, length = from_bytes(raw), int(digits)
    if found.version == 4 and ":" in address:
        length -= _MAPPED_BITS
    if not 0 <= length <= found.max_prefixlen:
        return None
    return ip_network((found.packed, length), strict=False)


def _parse_slowly(text: str) -> bytes | None:
    head, colon, dotted = text.rpartition(":") if "." in text else (text, "", "")
    groups = [_stripped(group) for group in head.split(":")] if head else []
    plain = ".".join(_stripped(byte) for byte in dotted.split("."))
    try:
        return inet_pton(AF_INET6, ":".join(groups) + colon + plain) if ":" in text else _mapped(plain)
    except (OSError, ValueError):
        return None


def _mapped(text: str) -> bytes:
    return _MAPPED_PREFIX + inet_pton(AF_INET, text)


def _stripped(digits: str) -> str:
    """Without leading zeros, but for the last; an empty group stays one."""
    return digits.lstrip("0") or digits[:1]


def is_ipv4(raw: bytes) -> bool:
    """Whether 16 bytes are an IPv4 address, mapped."""
    return raw.startswith(_MAPPED_PREFIX)
