"""ICMP echo in both families, through a raw socket or, where that is not allowed, a ping socket."""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
from dataclasses import dataclass

TOKEN_BYTES = 16
_MAGIC = b"tulle-verify:"


@dataclass(frozen=True)
class Echo:
    """A family's protocol number and its two message types (RFC 792, RFC 4443)."""

    protocol: int
    request: int
    reply: int


ECHO = {
    socket.AF_INET: Echo(socket.IPPROTO_ICMP, 8, 0),
    socket.AF_INET6: Echo(socket.IPPROTO_ICMPV6, 128, 129),
}


def new_token() -> bytes:
    """What tells one echo from all others; identifiers would not, as ping sockets choose their own."""
    return secrets.token_bytes(TOKEN_BYTES)


def request(family: socket.AddressFamily, token: bytes) -> bytes:
    """An echo request that carries ``token``. In IPv6 the kernel fills the checksum in."""
    kind = ECHO[family].request
    message = struct.pack("!BBHHH", kind, 0, 0, 0, 1) + _MAGIC + token
    return struct.pack("!BBHHH", kind, 0, checksum(message), 0, 1) + message[8:]


def parse(family: socket.AddressFamily, raw: bool, packet: bytes) -> tuple[int, bytes] | None:
    """Message type and token, or None for what is not ours. Raw IPv4 sockets give the IP header too."""
    start = (packet[0] & 0x0F) * 4 if raw and family is socket.AF_INET and packet else 0
    message = packet[start:]
    if len(message) < 8 + len(_MAGIC) + TOKEN_BYTES or message[8 : 8 + len(_MAGIC)] != _MAGIC:
        return None
    token = message[8 + len(_MAGIC) :][:TOKEN_BYTES]
    return message[0], token


def checksum(message: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    padded = message + b"\0" * (len(message) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def open_socket(family: socket.AddressFamily) -> socket.socket:
    """Non-blocking. Raises ``PermissionError`` if neither kind is allowed."""
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
        with contextlib.suppress(PermissionError):
            return socket.socket(family, kind | socket.SOCK_NONBLOCK, ECHO[family].protocol)
    raise PermissionError("no ICMP socket: needs NET_RAW or net.ipv4.ping_group_range")
