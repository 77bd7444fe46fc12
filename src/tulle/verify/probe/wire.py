"""What the two ends of a check say to each other: one line of JSON, then ``size`` bytes of payload.

The answer repeats the payload, so that one exchange proves both directions.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 4 * 1024 * 1024
FAMILIES = (socket.AF_INET, socket.AF_INET6)


def family_of(address: str) -> socket.AddressFamily:
    """The socket family of a numeric address."""
    return FAMILIES[ipaddress.ip_address(address).version == 6]


def payload(size: int) -> bytes:
    """``size`` bytes that no network would make up: each place differs from its neighbours."""
    pattern = bytes(range(256))
    return (pattern * (size // 256 + 1))[:size]


def encode(header: dict[str, Any], body: bytes = b"") -> bytes:
    return json.dumps(header).encode() + b"\n" + body


def decode(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Raises ``ValueError`` if ``message`` is not a line of JSON object."""
    line, _, body = message.partition(b"\n")
    header = json.loads(line)
    if not isinstance(header, dict):
        raise ValueError("not an object")
    return header, body


@dataclass(frozen=True)
class PacketInfo:
    """How a family tells the local address of a datagram, and takes the one to answer from.

    ``padding`` surrounds the address in what is sent; ``start`` is where it stands in what is received.
    A socket bound to all addresses would else answer from whichever address the route prefers.
    """

    level: int
    receive_option: int
    kind: int
    start: int
    length: int
    padding: tuple[bytes, bytes]

    def local(self, ancillary: list[tuple[int, int, bytes]]) -> bytes:
        """The packed local address among what ``recvmsg`` gave."""
        for level, kind, data in ancillary:
            if (level, kind) == (self.level, self.kind):
                return data[self.start : self.start + self.length]
        return b"\0" * self.length

    def answer_from(self, local: bytes) -> list[tuple[int, int, bytes]]:
        """The ancillary data for ``sendmsg``; interface 0 leaves the way out to the routes."""
        before, after = self.padding
        return [(self.level, self.kind, before + local + after)]


_IP_PKTINFO = 8  # linux/in.h; the socket module does not name it
PACKET_INFO = {
    socket.AF_INET: PacketInfo(socket.IPPROTO_IP, _IP_PKTINFO, _IP_PKTINFO, 4, 4, (bytes(4), bytes(4))),
    socket.AF_INET6: PacketInfo(
        socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, socket.IPV6_PKTINFO, 0, 16, (b"", bytes(4))
    ),
}
