"""Names outside the cluster: answered by ``hosts``, by the cache, or by upstreams (D-23).

A client always gets an answer, and soon: what cannot be answered is SERVFAIL, at the latest at the deadline,
and at once when every upstream is down or too many clients wait. Clients that ask the same share one query.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from tulle.dns import wire
from tulle.dns.configuration.config import CachePlan, Config, Forward, Scope
from tulle.dns.outside.cache import STALE_TTL, Cache, Entry, Key, make_entry
from tulle.dns.outside.forward_metrics import ForwardMetrics
from tulle.dns.outside.group import Group
from tulle.dns.outside.local import HostsTable, Rewritten, rewrite
from tulle.dns.outside.records import Record, expand
from tulle.dns.outside.response import Untrusted
from tulle.dns.outside.upstream import Question, Unanswered
from tulle.telemetry.metrics import Registry

log = logging.getLogger(__name__)

Respond = Callable[[bytes], None]
_TYPE_CLASS = Struct("!HH")
_TRANSFERS = (251, 252)  # IXFR, AXFR: a resolver has no zone to give


class Resolved(NamedTuple):
    """What a name led to; ``records`` are those of the answer, in their order, with whole names."""

    rcode: int
    records: tuple[Record, ...]


class _Flight:
    """A question on its way, and the clients that wait for the answer; none for a prefetch."""

    __slots__ = ("task", "waiting")

    def __init__(self) -> None:
        self.waiting: list[tuple[wire.Query, Respond]] = []
        self.task: asyncio.Task[None] | None = None


class Forwarder:
    """Made and used within one running event loop. ``clock`` is in seconds and never goes back."""

    def __init__(
        self, config: Config, registry: Registry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cache = Cache(clock)
        self._clock = clock
        self.metrics = ForwardMetrics(registry, self._cache.sizes)
        self._groups: dict[Forward, Group] = {}
        self._hosts: dict[bytes, HostsTable] = {}
        self._flights: dict[Key, _Flight] = {}
        self._leaving: set[Group] = set()
        self._config = Config(())
        self.configure(config)

    def configure(self, config: Config) -> None:
        """From now on. Upstreams that stay are not disturbed, queries to those that go end as they would.

        Answers that are kept may be wrong now, and go.
        """
        if config.scopes == self._config.scopes:
            self._config = config
            return
        wanted = {forward for scope in config.scopes for forward in scope.forwards}
        for forward in self._groups.keys() - wanted:
            self._leave(self._groups.pop(forward))
        for forward in wanted - self._groups.keys():
            self._groups[forward] = Group(forward, self.metrics.observe)
        self._hosts = {scope.zone: HostsTable(scope.hosts) for scope in config.scopes if scope.hosts}
        self._config = config
        self._cache.clear()

    async def close(self) -> None:
        """Clients that wait get SERVFAIL."""
        flights, self._flights = list(self._flights.values()), {}
        for flight in flights:
            waiting, flight.waiting = flight.waiting, []
            for query, respond in waiting:
                self._fail(None, query, respond)
        tasks = [flight.task for flight in flights if flight.task]
        for task in tasks:
            task.cancel()
        for group in (*self._groups.values(), *self._leaving):
            group.close()
        self._groups, self._leaving = {}, set()
        await asyncio.gather(*tasks, return_exceptions=True)

    def rewrite(self, query: wire.Query, raw: bytes) -> Rewritten | None:
        """To be called for every query before anything else: a rule may lead into the cluster's zone."""
        scope = self._config.scope(query.name)
        return rewrite(scope.rewrites, query, raw) if scope and scope.rewrites else None

    def hosts(self, query: wire.Query) -> bytes | None:
        """The answer of ``hosts``, which comes before the cluster's zone; None: go on."""
        if not self._hosts:
            return None
        scope = self._config.scope(query.name)
        table = self._hosts.get(scope.zone) if scope else None
        return table.answer(query) if table else None

    def answer(self, query: wire.Query, raw: bytes, respond: Respond) -> None:
        """Calls ``respond`` exactly once with a whole message, at once if the answer is here.

        ``raw`` is the query as it came. The answer may be longer than ``query.size``: ``wire.fit`` it.
        """
        key = query.name, query.type, query.do, query.flags & wire.CD
        entry = self._cache.get(key)
        if entry is None:
            self._miss(key, query, respond, None)
            return
        now = self._clock()
        if now >= entry.expires:
            self._miss(key, query, respond, entry if entry.stale(now) else None)
            return
        metrics = self.metrics
        (metrics.denial_hits if entry.denial else metrics.success_hits).value += 1
        respond(entry.fresh(query, now))
        if entry.popular(now) and self._refresh(key):
            metrics.prefetches.value += 1

    async def resolve(self, name: bytes, qtype: int) -> Resolved:
        """For the target of an ExternalName (D-09): as a client would be answered, name in lower case."""
        query = wire.Query(
            0, wire.RD, name, name, qtype, wire.IN, wire.TCP_LIMIT, False, False, len(name) + 4
        )
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.answer(query, b"", lambda whole: None if future.done() else future.set_result(whole))
        whole = await future
        try:
            records = expand(whole)
        except Untrusted:
            return Resolved(wire.SERVFAIL, ())
        return Resolved(whole[3] & 0xF, tuple(record for record in records if record.section == 0))

    def _miss(self, key: Key, query: wire.Query, respond: Respond, stale: Entry | None) -> None:
        local = self.hosts(query)
        if local is not None:
            respond(local)
            return
        self.metrics.misses.value += 1
        scope, group = self._route(query.name)
        if scope is None or group is None or query.type in _TRANSFERS:
            respond(wire.message(query, wire.REFUSED, authoritative=False))
        elif stale is not None and stale.plan.stale_first:
            self._give_stale(stale, query, respond)
            self._refresh(key)
        elif group.in_flight >= group.plan.max_concurrent:
            self.metrics.rejects.value += 1
            self._fail(stale, query, respond)
        elif group.down:
            self.metrics.all_down.value += 1
            self._fail(stale, query, respond)
        else:
            group.in_flight += 1
            self._start(key, scope, group).waiting.append((query, respond))

    def _route(self, name: bytes) -> tuple[Scope | None, Group | None]:
        scope = self._config.scope(name)
        forward = scope.forward(name) if scope else None
        return scope, self._groups.get(forward) if forward else None

    def _refresh(self, key: Key) -> bool:
        """Fetches an answer for which nobody waits, unless there is more urgent work. Whether it does."""
        scope, group = self._route(key[0])
        if scope is None or group is None or key in self._flights or group.down:
            return False
        if len(self._flights) >= group.plan.max_concurrent:
            return False
        self._start(key, scope, group)
        return True

    def _leave(self, group: Group) -> None:
        """Closed when no query can be waiting any longer."""

        def close() -> None:
            self._leaving.discard(group)
            group.close()

        self._leaving.add(group)
        asyncio.get_running_loop().call_later(group.plan.deadline, close)

    def _start(self, key: Key, scope: Scope, group: Group) -> _Flight:
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.create_task(
                self._fly(key, flight, scope.cache, group), name=f"resolve {wire.text(key[0])}"
            )
        return flight

    async def _fly(self, key: Key, flight: _Flight, plan: CachePlan | None, group: Group) -> None:
        """Ends with an answer for everyone who waits, whatever happens."""
        entry: Entry | None = None
        config = self._config
        try:
            name, qtype, do, cd = key
            question = Question(name + _TYPE_CLASS.pack(qtype, wire.IN), do, bool(cd))
            answer = await group.ask(question)
            entry = make_entry(question.wire, answer, plan, self._clock())
        except Unanswered as error:
            log.debug("%s: %s", wire.text(key[0]), error)
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            group.in_flight -= len(flight.waiting)
            self._land(key, flight, entry, keep=config is self._config)

    def _land(self, key: Key, flight: _Flight, entry: Entry | None, keep: bool) -> None:
        """``keep`` is false when other upstreams may be asked now: what these said is of no use later."""
        now = self._clock()
        old = self._cache.get(key)
        stale = old if old is not None and old.stale(now) else None
        if entry is not None and entry.rcode in (wire.NOERROR, wire.NXDOMAIN):
            stale = None
        elif stale is not None:
            entry = None
        if keep and entry is not None and entry.life:
            self._cache.put(key, entry)
        for query, respond in flight.waiting:
            if entry is not None:
                respond(entry.fresh(query, now))
            else:
                self._fail(stale, query, respond)

    def _fail(self, stale: Entry | None, query: wire.Query, respond: Respond) -> None:
        if stale is not None:
            self._give_stale(stale, query, respond)
        else:
            respond(wire.message(query, wire.SERVFAIL, authoritative=False))

    def _give_stale(self, stale: Entry, query: wire.Query, respond: Respond) -> None:
        self.metrics.stale.value += 1
        respond(stale.message(query, STALE_TTL))
