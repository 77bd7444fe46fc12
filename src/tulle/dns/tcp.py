"""TCP: queries one behind the other on a connection, answered as they are ready (RFC 7766)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import cast

from tulle.dns.resolver import Resolver, Transport
from tulle.dns.statistics import Statistics
from tulle.dns.wire import TCP_LIMIT

log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0
"""A connection without a query and without an answer that is due is closed after this."""

MOST_CONNECTIONS = 1000
MOST_PENDING = 64
"""Queries of one connection that are under way; then no more are read from it."""


class TcpListener:
    """Serves ``sock``, which listens already."""

    def __init__(self, sock: socket.socket, resolver: Resolver, statistics: Statistics) -> None:
        self._sock = sock
        self._resolver = resolver
        self._statistics = statistics
        self._way = Transport("tcp", "1" if sock.family == socket.AF_INET else "2", TCP_LIMIT)
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accepts from now on. The descriptor is copied: closing the server must not close the listener."""
        copy = self._sock.dup()
        copy.setblocking(False)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=copy, backlog=1024)

    def stop(self) -> None:
        """Accepts no more; a connection ends when its last answer is sent."""
        if self._server:
            self._server.close()
        for connection in list(self._connections):
            connection.finish()

    @property
    def open(self) -> int:
        """Connections."""
        return len(self._connections)

    def close_idle(self, now: float) -> None:
        """To be called about once a second with the loop's time."""
        for connection in list(self._connections):
            connection.close_if_idle(now)

    def _connection(self) -> asyncio.Protocol:
        return _Connection(self)

    def _opened(self, connection: _Connection) -> bool:
        if len(self._connections) >= MOST_CONNECTIONS:
            self._statistics.dropped.inc("too many connections")
            return False
        self._connections.add(connection)
        self._statistics.connections.value += 1
        return True

    def _closed(self, connection: _Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._statistics.connections.value -= 1

    def _handle(self, data: bytes, client: object, respond: Callable[[bytes], None]) -> bool:
        try:
            return self._resolver.handle(data, self._way, client, respond)
        except Exception:
            self._statistics.panics.value += 1
            log.exception("a query from %s could not be handled", client)
            return False


class _Connection(asyncio.Protocol):
    """One client. Bytes that are no message end it: there is no way to find the next one."""

    def __init__(self, listener: TcpListener) -> None:
        self._listener = listener
        self._buffer = bytearray()
        self._pending = 0
        self._paused = self._choked = self._finishing = self._working = False
        self._active = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._client = transport.get_extra_info("peername")
        if not self._listener._opened(self):
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._listener._closed(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._work()

    def eof_received(self) -> bool:
        """A client may close its side behind the last query (RFC 7766 section 6.2.4)."""
        self.finish()
        return True

    def pause_writing(self) -> None:
        """The client does not read its answers: read no more of its queries."""
        self._choked = True
        self._set_reading()

    def resume_writing(self) -> None:
        self._choked = False
        self._work()

    def _work(self) -> None:
        """Asks what is in the buffer, as far as the limits allow. Answers that come at once come in here."""
        if self._working:
            return
        self._working = True
        while not self._choked and self._pending < MOST_PENDING and len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2])
            if len(self._buffer) < end:
                break
            data = bytes(self._buffer[2:end])
            del self._buffer[:end]
            self._active = asyncio.get_running_loop().time()
            if not self._ask(data):
                self._transport.abort()
                break
        self._working = False
        self._set_reading()
        self._end_if_done()

    def _ask(self, data: bytes) -> bool:
        """False: it deserves no answer, which ends the connection."""
        self._pending += 1
        return self._listener._handle(data, self._client, self._respond)

    def _respond(self, answer: bytes) -> None:
        self._pending -= 1
        self._active = asyncio.get_running_loop().time()
        if not self._transport.is_closing():
            self._transport.write(len(answer).to_bytes(2) + answer)
            self._work()

    def _set_reading(self) -> None:
        pause = self._choked or self._pending >= MOST_PENDING
        if pause != self._paused and not self._transport.is_closing():
            self._paused = pause
            (self._transport.pause_reading if pause else self._transport.resume_reading)()

    def finish(self) -> None:
        """No more queries after those that are here."""
        self._finishing = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        done = self._finishing and not self._pending and not self._choked
        if done and not self._working and not self._transport.is_closing():
            self._transport.close()

    def close_if_idle(self, now: float) -> None:
        """A client that does not read its answers is idle, too."""
        if now - self._active > IDLE_SECONDS and (self._choked or not self._pending):
            self._transport.abort()
