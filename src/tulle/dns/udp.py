"""UDP: many queries for each wake-up, and none lost when the process is killed."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket

from tulle.dns.resolver import Resolver, Transport
from tulle.dns.statistics import Statistics
from tulle.dns.wire import UDP_LIMIT

log = logging.getLogger(__name__)

_AT_A_TIME = 64
"""Queries that are answered before others (TCP, the API's news) get their turn: some milliseconds."""

_LONGEST_QUERY = 2048
"""Bytes. The rest of a longer packet is cut off, which makes it malformed."""


class UdpListener:
    """Answers what comes in on ``sock``, from the address that it is bound to.

    A query is looked at, answered, and only then taken out of the socket's buffer. The buffer belongs to the
    supervisor and outlives this process: a query that was under way when it was killed is there for the next
    one. So only one process may read a socket at a time.
    """

    def __init__(self, sock: socket.socket, resolver: Resolver, statistics: Statistics) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._resolver = resolver
        self._statistics = statistics
        self._way = Transport("udp", "1" if sock.family == socket.AF_INET else "2", UDP_LIMIT)

    def start(self) -> None:
        """Reads from now on."""
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._readable)

    def stop(self) -> None:
        """Reads no more; answers that are due are still sent."""
        asyncio.get_running_loop().remove_reader(self._sock.fileno())

    def _readable(self) -> None:
        peek, take = self._sock.recvfrom, self._sock.recv
        for _ in range(_AT_A_TIME):
            try:
                data, client = peek(_LONGEST_QUERY, socket.MSG_PEEK)
            except BlockingIOError:
                return
            try:
                self._resolver.handle(data, self._way, client, functools.partial(self._send, client))
            except Exception:
                self._statistics.panics.value += 1
                log.exception("a query from %s could not be handled", client)
            take(1)

    def _send(self, client: tuple[str, int], answer: bytes) -> None:
        """An answer that the kernel refuses (no route, a full buffer) is asked for again by the client."""
        try:
            self._sock.sendto(answer, client)
        except OSError as error:
            self._statistics.dropped.inc("cannot send")
            log.debug("no answer to %s: %s", client, error)
