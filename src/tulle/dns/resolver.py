"""From a packet to its answer: malformed, ours, an alias, or the forwarder's; counted, and logged."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from tulle.dns import wire
from tulle.dns.cluster.zone import Alias, Zone
from tulle.dns.outside.forward import Forwarder, Respond
from tulle.dns.statistics import RCODES, TYPES, Statistics
from tulle.dns.wire import Malformed, Query, Section

log = logging.getLogger(__name__)
queries = logging.getLogger("tulle.dns.queries")

MOST_ALIASES_AT_ONCE = 1000
"""ExternalNames that are being resolved; one more is answered with SERVFAIL instead of growing memory."""


@dataclass(frozen=True, slots=True)
class Transport:
    """How a query came: ``proto`` is udp or tcp, ``family`` 1 (IPv4) or 2; ``limit`` is in bytes."""

    proto: str
    family: str
    limit: int


class Resolver:
    """``ready`` is False until the zone is known: until then nobody is told that a name does not exist."""

    def __init__(
        self, zone: Zone, forwarder: Forwarder, statistics: Statistics, *, log_queries: bool = False
    ) -> None:
        self.zone = zone
        self.ready = False
        self.log_queries = log_queries
        self.steps_before = False
        """Whether the configuration has rewrites or hosts, which come before the zone."""
        self.open = 0
        """Queries that wait for their answer."""
        self._forwarder = forwarder
        self._statistics = statistics
        self._aliases: set[asyncio.Task[None]] = set()

    def handle(self, data: bytes, way: Transport, client: object, respond: Respond) -> bool:
        """Calls ``respond`` once with what to send, now or later; False: the packet deserves no answer."""
        began = time.perf_counter()
        try:
            query = wire.parse_query(data, way.limit)
        except Malformed as error:
            return self._reject(data, error, respond)
        self.open += 1
        then = _Open(self, query, data, way, client, respond, began, True)
        if self.steps_before:
            self._first_steps(query, data, then)
        else:
            self._answer(query, data, then, then)
        return True

    def _first_steps(self, query: Query, data: bytes, then: _Open) -> None:
        """Rewrites and hosts: the order of CoreDNS' plugins."""
        rewritten = self._forwarder.rewrite(query, data)
        if rewritten:
            restore = rewritten.restore
            query, data = rewritten.query, rewritten.raw
        local = self._forwarder.hosts(query)
        if rewritten is None:
            if local is not None:
                then(local)
            else:
                self._answer(query, data, then, then)
        elif local is not None:
            then(restore(local))
        else:
            self._answer(query, data, then, lambda answer: then(restore(answer)))

    def _answer(self, query: Query, data: bytes, then: _Open, respond: Respond) -> None:
        found = self.zone.answer(query) if self.ready else None
        if type(found) is bytes:
            respond(found)
        elif isinstance(found, Alias):
            self._resolve(found, query, respond)
        elif self.zone.covers(query.name):
            respond(wire.message(query, wire.SERVFAIL, authoritative=False))
        else:
            then.ours = False
            self._forwarder.answer(query, data, respond)

    def _reject(self, data: bytes, error: Malformed, respond: Respond) -> bool:
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
        self.open -= 1
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
        if self.log_queries:
            _log_query(done, answer, took)

    def _resolve(self, alias: Alias, query: Query, respond: Respond) -> None:
        if len(self._aliases) >= MOST_ALIASES_AT_ONCE:
            respond(wire.message(query, wire.SERVFAIL))
            return
        task = asyncio.get_running_loop().create_task(
            self._follow(alias, query, respond), name=f"resolve {wire.text(alias.target)}"
        )
        self._aliases.add(task)
        task.add_done_callback(self._aliases.discard)

    async def _follow(self, alias: Alias, query: Query, respond: Respond) -> None:
        """A target that fails is an answer that fails (D-09, D-23); one that does not exist says so."""
        try:
            rcode, records = await self._forwarder.resolve(alias.target, query.type)
        except Exception:
            self._statistics.panics.value += 1
            log.exception("resolving %s failed", wire.text(alias.target))
            rcode, records = wire.SERVFAIL, ()
        found = b"".join(record.wire() for record in records)
        whole = Section(alias.known.count + len(records), alias.known.records + found)
        respond(wire.message(query, rcode, whole))


@dataclass(slots=True)
class _Open:
    """A query that waits for its answer; to be called with it."""

    resolver: Resolver
    query: Query
    raw: bytes
    way: Transport
    client: object
    respond: Respond
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
