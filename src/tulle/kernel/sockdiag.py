"""Finds and ends sockets of the network namespace that the calling thread is in (``man 7 sock_diag``)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from tulle.kernel.netlink import NLM_F_DUMP, Netlink, Request

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 20, 21
TCP_ESTABLISHED: Final = 1  # which a connected UDP socket is in, too

_HEAD = struct.Struct("=BBBxI")  # family, protocol, extensions, states
_ANSWER = struct.Struct("=BBBB")  # family, state, timer, retransmissions
_ID = struct.Struct("=HH16s16sIQ")  # ports, addresses, device, cookie


class Connected(NamedTuple):
    """A connected socket; ``identity`` is how the kernel tells of it, and knows it again."""

    cookie: int
    peer: bytes  # 16 bytes, IPv4 as ::ffff:a.b.c.d
    port: int
    family: int
    identity: bytes


def connected_udp(netlink: Netlink) -> Iterator[Connected]:
    """The connected UDP sockets here. Raises ``KernelError``."""
    for family in (socket.AF_INET, socket.AF_INET6):
        asked = _HEAD.pack(family, socket.IPPROTO_UDP, 0, 1 << TCP_ESTABLISHED) + bytes(_ID.size)
        for _, body in netlink.dump(Request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, asked, "list UDP sockets")):
            identity = body[_ANSWER.size : _ANSWER.size + _ID.size]
            _, port, _, peer, _, cookie = _ID.unpack(identity)
            yield Connected(cookie, _address(peer, family), socket.ntohs(port), family, identity)


def _address(raw: bytes, family: int) -> bytes:
    return raw if family == socket.AF_INET6 else bytes(10) + b"\xff\xff" + raw[:4]


def destroy_udp(netlink: Netlink, sockets: Iterable[Connected]) -> None:
    """Ends them: whoever waits on one is told ECONNABORTED. One that is gone is passed over.

    Raises ``KernelError``: EOPNOTSUPP where the kernel has no ``CONFIG_INET_DIAG_DESTROY``.
    """
    head = {f: _HEAD.pack(f, socket.IPPROTO_UDP, 0, 1 << TCP_ESTABLISHED) for f in (2, 10)}
    requests = [
        Request(SOCK_DESTROY, 0, head[each.family] + each.identity, "end a UDP socket") for each in sockets
    ]
    if requests:
        netlink.send(requests, tolerate=frozenset({errno.ENOENT}))
