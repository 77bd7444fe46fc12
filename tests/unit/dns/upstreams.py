"""Upstreams on loopback, and a forwarder that asks them; answers are functions, so that they can be wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import cast

import upstream_messages as m
from tests.ports import open_pair

from tulle.dns import wire
from tulle.dns.configuration.config import CachePlan, Config, Endpoint, Forward, Scope
from tulle.dns.names import to_wire
from tulle.dns.outside.forward import Forwarder
from tulle.telemetry.metrics import Registry

Sender = tuple[str, int]
Behaviour = Callable[["Asked"], list[bytes] | None]
"""The packets to send back; None for silence."""


@dataclass(frozen=True)
class Asked:
    """A query as the upstream got it."""

    data: bytes
    sender: Sender
    tcp: bool

    @property
    def ident(self) -> int:
        return int.from_bytes(self.data[:2])

    @property
    def question(self) -> bytes:
        return self.data[12 : 12 + wire.parse_query(self.data, wire.TCP_LIMIT).question_length]

    @property
    def edns(self) -> bool:
        return wire.parse_query(self.data, wire.TCP_LIMIT).edns

    def reply(self, *answers: m.Record, **more: object) -> bytes:
        """The right answer, unless ``more`` makes it another."""
        question = more.pop("asked", self.question)
        return m.answer(question, list(answers), **{"ident": self.ident, **more})  # type: ignore[arg-type]


def address(asked: Asked) -> list[bytes]:
    """What a good upstream does."""
    return [asked.reply(m.a())]


def silence(asked: Asked) -> None:
    """What a dead upstream does whose packets are dropped."""


class Upstream(asyncio.DatagramProtocol):
    """Set ``behave`` at any time. ``asked`` are all queries but the probes."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.asked: list[Asked] = []
        self.probes = 0
        self.arrived = asyncio.Event()
        self.endpoint = Endpoint("127.0.0.1", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: Sender) -> None:
        for packet in self._answers(Asked(data, sender, tcp=False)):
            self.transport.sendto(packet, sender)

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            for packet in self._answers(Asked(data, writer.get_extra_info("peername"), tcp=True)):
                writer.write(len(packet).to_bytes(2) + packet)
            await writer.drain()
        writer.close()

    async def until_asked(self, times: int) -> None:
        while len(self.asked) < times:
            self.arrived.clear()
            await self.arrived.wait()

    async def until_probed(self) -> None:
        before = self.probes
        while self.probes == before:
            self.arrived.clear()
            await self.arrived.wait()

    def _answers(self, asked: Asked) -> list[bytes]:
        if asked.question[0]:
            self.asked.append(asked)
        else:
            self.probes += 1
        self.arrived.set()
        return self.behave(asked) or []


@contextlib.asynccontextmanager
async def upstream(behave: Behaviour = address, host: str = "127.0.0.1") -> AsyncIterator[Upstream]:
    """One that listens on a free port, UDP and TCP."""
    loop = asyncio.get_running_loop()
    one = Upstream(behave)
    listener, datagrams = open_pair(host)
    one.endpoint = Endpoint(host, listener.getsockname()[1])
    server = await asyncio.start_server(one.serve_tcp, sock=listener)
    transport, _ = await loop.create_datagram_endpoint(lambda: one, sock=datagrams)
    try:
        yield one
    finally:
        transport.close()
        server.close()
        await server.wait_closed()


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """A forwarder, and what it answers."""

    def __init__(self, config: Config) -> None:
        self.clock = Clock()
        self.registry = Registry()
        self.forwarder = Forwarder(config, self.registry, self.clock)

    def send(
        self, name: str, qtype: int = wire.A, *, ident: int = 7, edns: bool = False
    ) -> asyncio.Future[bytes]:
        """The answer as it will come; a second one is an error."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.forwarder.answer(*m.parsed(name, qtype, ident=ident, edns=edns), future.set_result)
        return future

    async def ask(self, name: str, qtype: int = wire.A, *, ident: int = 7, edns: bool = False) -> bytes:
        """The answer; probes and prefetches get their turn too, even if it was there at once."""
        answer = await self.send(name, qtype, ident=ident, edns=edns)
        await asyncio.sleep(0)
        return answer

    def metric(self, sample: str) -> float:
        """The value of one sample as /metrics shows it, 0 if it is not there."""
        lines = (line.rpartition(" ") for line in self.registry.text().splitlines())
        return next((float(value) for name, _, value in lines if name == sample), 0.0)


PLAN = Forward((), policy="sequential", health_interval=0.01, patience=60.0, deadline=60.0)
"""An upstream that answers does so in time, however busy the machine is."""
IMPATIENT = replace(PLAN, patience=0.05)
HASTY = replace(IMPATIENT, deadline=0.4)
"""For upstreams that are silent: the next one is asked soon, or nobody is in the end."""
CACHE = CachePlan()


def config(*upstreams: Upstream | Endpoint, cache: CachePlan | None = CACHE, plan: Forward = PLAN) -> Config:
    """All names go to these upstreams."""
    to = tuple(one.endpoint if isinstance(one, Upstream) else one for one in upstreams)
    return Config((Scope(to_wire("."), (replace(plan, upstreams=to),), cache),))


@contextlib.asynccontextmanager
async def client(made: Config) -> AsyncIterator[Client]:
    """Closed at the end, with nothing left running."""
    one = Client(made)
    try:
        yield one
    finally:
        await one.forwarder.close()
