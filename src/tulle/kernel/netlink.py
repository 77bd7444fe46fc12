"""The netlink wire format and a socket that sends requests in batches (``man 7 netlink``).

Own code rather than a library: CNI ADD sends its two dozen requests in three batches here, each of one
system call and one answer.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from tulle.errors import KernelError
from tulle.model.address import Address

Attributes = dict[int, bytes]

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_DUMP: Final = 0x300
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE_SIZE = 1 << 18
_PORTION = 128  # requests in one datagram: they, and an error for each, fit into a socket's buffers
_TYPE_MASK = 0x3FFF


@dataclass(frozen=True, slots=True)
class Request:
    """One netlink message; ``what`` says in words what it does, for the error."""

    kind: int
    flags: int
    body: bytes
    what: str

    def encode(self, sequence: int, acknowledge: bool = False) -> bytes:
        """The message on the wire. Failures are answered always, success when it is to be acknowledged."""
        length = _HEADER.size + len(self.body)
        flags = self.flags | NLM_F_REQUEST | (NLM_F_ACK if acknowledge else 0)
        return _HEADER.pack(length, self.kind, flags, sequence, 0) + self.body + bytes(-length % 4)


def attribute(kind: int, value: bytes | int | str | Address) -> bytes:
    """A route attribute. An int is 32 bits in host order, a str is closed with NUL."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    elif not isinstance(value, bytes):
        value = value.packed
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def parse_attributes(data: bytes) -> Attributes:
    """Attributes by kind; of a kind that comes twice the last one."""
    found: Attributes = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


class Netlink:
    """A netlink socket of the network namespace that the thread is in when it is made.

    ``family``: ``NETLINK_ROUTE`` (0), or another of ``linux/netlink.h``.
    """

    def __init__(self, groups: int = 0, family: int = 0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        self._socket.bind((0, groups))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, requests: Sequence[Request], tolerate: frozenset[int] = frozenset()) -> None:
        """Carries out the requests in order; one system call, and one answer where all goes well, for many.

        The kernel goes on after one that fails; the first failure whose errno is not in ``tolerate``
        is raised as ``KernelError`` after the last has been answered.
        """
        portions = (requests[start : start + _PORTION] for start in range(0, len(requests), _PORTION))
        failures = [self._send_portion(portion, tolerate) for portion in portions]
        if failure := next(filter(None, failures), None):
            raise failure

    def _send_portion(self, requests: Sequence[Request], tolerate: frozenset[int]) -> KernelError | None:
        """The first failure that is not tolerated."""
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(requests)
        numbered = enumerate(requests, first)
        self._socket.send(b"".join(r.encode(number, number == last) for number, r in numbered))
        failure: KernelError | None = None
        answered = 0
        while answered < last:
            for kind, answered, body in self.receive():
                if kind != NLMSG_ERROR or answered < first:
                    continue
                code = -struct.unpack_from("=i", body)[0]
                if code and code not in tolerate and failure is None:
                    failure = KernelError(code, requests[answered - first].what)
        return failure

    def dump(self, request: Request) -> list[tuple[int, bytes]]:
        """All answers to a dump as (message kind, body)."""
        self._sequence += 1
        self._socket.send(request.encode(self._sequence))
        answers: list[tuple[int, bytes]] = []
        while True:
            for kind, sequence, body in self.receive():
                if sequence != self._sequence:
                    continue
                if kind == NLMSG_DONE:
                    return answers
                if kind == NLMSG_ERROR:
                    raise KernelError(-struct.unpack_from("=i", body)[0], request.what)
                answers.append((kind, body))

    def receive(self) -> Iterator[tuple[int, int, bytes]]:
        """The messages of one datagram as (kind, sequence, body).

        Raises ``KernelError`` ENOBUFS when messages to a multicast group were lost.
        """
        try:
            data = self._socket.recv(_RECEIVE_SIZE)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, "receive from netlink") from error
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _flags, sequence, _port = _HEADER.unpack_from(data, offset)
            yield kind, sequence, data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3
