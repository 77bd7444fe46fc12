"""TCP connections have limits: their number, idle time, queries under way, answers not read (D-21)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from dns_cluster import catalog, packet, service

from tulle.dns import tcp
from tulle.dns.configuration.config import Config
from tulle.dns.outside.forward import Forwarder, Respond
from tulle.dns.resolver import Resolver
from tulle.dns.statistics import Statistics
from tulle.dns.tcp import IDLE_SECONDS, MOST_PENDING, TcpListener
from tulle.dns.wire import Query, message

WEB = packet("web.default.svc.cluster.local", "A")
OUTSIDE = packet("www.example.com", "A")


class Slow(Forwarder):
    """Answers when it is told to."""

    waiting: list[tuple[Query, Respond]]

    def answer(self, query: Query, raw: bytes, respond: Respond) -> None:
        self.waiting.append((query, respond))


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[TcpListener, Slow, int]]:
    zone = catalog(service("default/web", "10.96.0.5")).zone
    statistics = Statistics(53, zone.options.zone)
    slow = Slow(Config(()), statistics.registry)
    slow.waiting = []
    resolver = Resolver(zone, slow, statistics)
    resolver.ready = True
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = TcpListener(sock, resolver, statistics)
        await listener.start()
        try:
            yield listener, slow, sock.getsockname()[1]
        finally:
            listener.stop()
            listener.close_idle(float("inf"))
            for query, respond in slow.waiting:
                respond(message(query, 2))
            await turns(lambda: not listener.open)
            await asyncio.sleep(0)


async def turns(condition: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never held")


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


async def answer(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> None:
    """The server has ended the connection."""
    with suppress(ConnectionResetError):
        assert await reader.read(1) == b""


async def test_a_query_in_pieces_is_one_query() -> None:
    async with listening() as (_, _, port), connected(port) as (reader, writer):
        for byte in framed(WEB):
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await answer(reader))[-4:] == bytes((10, 96, 0, 5))


async def test_an_idle_connection_is_closed_and_one_that_waits_is_not() -> None:
    async with (
        listening() as (listener, slow, port),
        connected(port) as (idle, _),
        connected(port) as (waits, writer),
    ):
        writer.write(framed(OUTSIDE))
        await turns(lambda: listener.open == 2 and len(slow.waiting) == 1)
        now = asyncio.get_running_loop().time()
        listener.close_idle(now)
        assert listener.open == 2
        listener.close_idle(now + IDLE_SECONDS + 1)
        await ended(idle)
        query, respond = slow.waiting.pop()
        respond(message(query, 0))
        assert (await answer(waits))[:2] == OUTSIDE[:2]


async def test_no_more_queries_of_a_connection_are_under_way_than_the_limit() -> None:
    async with listening() as (_, slow, port), connected(port) as (reader, writer):
        writer.write(framed(OUTSIDE) * (MOST_PENDING + 10))
        await turns(lambda: len(slow.waiting) == MOST_PENDING)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(slow.waiting) == MOST_PENDING
        for _ in range(MOST_PENDING + 10):
            await turns(lambda: bool(slow.waiting))
            query, respond = slow.waiting.pop()
            respond(message(query, 0))
            await answer(reader)


async def test_one_connection_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "MOST_CONNECTIONS", 1)
    async with listening() as (listener, _, port), connected(port):
        await turns(lambda: listener.open == 1)
        async with connected(port) as (other, _):
            await ended(other)
        assert listener.open == 1


async def test_bytes_that_are_no_query_end_the_connection() -> None:
    async with listening() as (_, _, port), connected(port) as (reader, writer):
        writer.write(framed(b"abc"))
        await ended(reader)
