"""From a packet to its answer: malformed, ours, an alias, or the forwarder's; counted, and logged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tulle.dns import wire
from tulle.dns.statistics import RCODES, TYPES, Statistics
from tulle.dns.wire import Malformed, Query, Section
from tulle.dns.zone import Alias, Zone

log = logging.getLogger(__name__)
queries = logging.getLogger("tulle.dns.queries")

MOST_ALIASES_AT_ONCE = 1000
"""ExternalNames that are being resolved; one more is answered with SERVFAIL instead of growing memory."""


class Forwarding(Protocol):
    """Names that are not the cluster's."""

    def answer(self, query: Query, raw: bytes, respond: Callable[[bytes], None]) -> None:
        """Calls ``respond`` exactly once with a whole message, now or later."""

    def resolve(self, name: bytes, qtype: int) -> Awaitable[tuple[int, Section]]:
        """(rcode, records) of a name that a Service is an alias for."""


@dataclass(frozen=True, slots=True)
class Transport:
    """How a query came: ``proto`` is udp or tcp, ``family`` 1 (IPv4) or 2; ``limit`` is in bytes."""

    proto: str
    family: str
    limit: int


class Resolver:
    """``ready`` is False until the zone is known: until then nobody is told that a name does not exist."""

    def __init__(
        self, zone: Zone, forwarder: Forwarding, statistics: Statistics, *, log_queries: bool = False
    ) -> None:
        self.zone = zone
        self.forwarder = forwarder
        self.ready = False
        self._statistics = statistics
        self._log_queries = log_queries
        self._aliases: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """Aliases that are being resolved."""
        return len(self._aliases)

    def handle(self, data: bytes, way: Transport, client: object, respond: Callable[[bytes], None]) -> bool:
        """Calls ``respond`` once with what to send, now or later; False: the packet deserves no answer."""
        began = time.perf_counter()
        try:
            query = wire.parse_query(data, way.limit)
        except Malformed as error:
            return self._reject(data, error, respond)
        found = self.zone.answer(query) if self.ready else None
        ours = found is not None or self.zone.covers(query.name)
        then = _Open(self, query, data, way, client, respond, began, ours)
        if type(found) is bytes:
            then(found)
        elif isinstance(found, Alias):
            self._resolve(found, then)
        elif ours:
            then(wire.message(query, wire.SERVFAIL, authoritative=False))
        else:
            self.forwarder.answer(query, data, then)
        return True

    def _reject(self, data: bytes, error: Malformed, respond: Callable[[bytes], None]) -> bool:
        answer = wire.rejection(data, error)
        if answer is None or error.rcode is None:
            self._statistics.dropped.inc("no query")
            return False
        self._statistics.result(True, error.rcode).value += 1
        respond(answer)
        return True

    def finish(self, done: _Open, answer: bytes) -> None:
        """Sends what the client takes of ``answer``, and counts it."""
        query, way = done.query, done.way
        if len(answer) > query.size:
            answer = wire.fit(answer, query)
        done.respond(answer)
        took = time.perf_counter() - done.began
        cells = self._statistics.cells(way.proto, way.family, done.ours, query.type)
        cells.requests.value += 1
        cells.request_size.observe(len(done.raw))
        cells.response_size.observe(len(answer))
        cells.duration.observe(took)
        self._statistics.result(done.ours, answer[3] & 0xF).value += 1
        if self._log_queries:
            _log_query(done, answer, took)

    def _resolve(self, alias: Alias, then: _Open) -> None:
        if len(self._aliases) >= MOST_ALIASES_AT_ONCE:
            then(wire.message(then.query, wire.SERVFAIL))
            return
        task = asyncio.get_running_loop().create_task(
            self._follow(alias, then), name=f"resolve {wire.text(alias.target)}"
        )
        self._aliases.add(task)
        task.add_done_callback(self._aliases.discard)

    async def _follow(self, alias: Alias, then: _Open) -> None:
        """A target that fails is an answer that fails (D-09, D-23); one that does not exist says so."""
        known = alias.known
        try:
            rcode, found = await self.forwarder.resolve(alias.target, then.query.type)
        except Exception:
            self._statistics.panics.value += 1
            log.exception("resolving %s failed", wire.text(alias.target))
            rcode, found = wire.SERVFAIL, wire.EMPTY
        whole = Section(known.count + found.count, known.records + found.records)
        then(wire.message(then.query, rcode, whole))


@dataclass(slots=True)
class _Open:
    """A query that waits for its answer; to be called with it."""

    resolver: Resolver
    query: Query
    raw: bytes
    way: Transport
    client: object
    respond: Callable[[bytes], None]
    began: float
    ours: bool

    def __call__(self, answer: bytes) -> None:
        self.resolver.finish(self, answer)


def _log_query(done: _Open, answer: bytes, took: float) -> None:
    """In CoreDNS' common format."""
    query, client = done.query, done.client
    host, port = client[:2] if isinstance(client, tuple) else (client, 0)
    address = f"[{host}]" if ":" in str(host) else host
    flags = int.from_bytes(answer[2:4])
    names = (("qr", wire.QR), ("aa", wire.AA), ("tc", wire.TC), ("rd", wire.RD), ("ra", wire.RA))
    shown = ",".join(name for name, bit in names if flags & bit)
    kind = TYPES.get(query.type, f"TYPE{query.type}")
    size, do = len(done.raw), str(query.do).lower()
    asked = f'"{kind} IN {wire.text(query.asked)} {done.way.proto} {size} {do} {query.size}"'
    rcode = RCODES.get(flags & 0xF, str(flags & 0xF))
    queries.info(
        "%s:%s - %d %s %s %s %d %.9fs", address, port, query.id, asked, rcode, shown, len(answer), took
    )
