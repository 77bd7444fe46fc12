"""Nodes, an API, and the network between them, in one thread and on a clock that only jumps.

Each node's clock has a speed and an offset of its own. Requests and answers are late or lost, a watch is late
but in order, agents are killed, frozen and cut off, as the random numbers and a test say. What the kernel
answers is kept apart from the agent: it goes on without it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

from tulle.external_to_service.announce.actions import (
    Action,
    End,
    Fence,
    Give,
    Remove,
    Renew,
    Start,
    Take,
)
from tulle.external_to_service.announce.election import RETRY, Election
from tulle.external_to_service.announce.leases import SECONDS, Record, node_of
from tulle.external_to_service.announce.vips import Vip
from tulle.model.address import Address

VIP = ip_address("192.0.2.7")
PATIENCE = 0.5  # as in the agent: seconds until an answer is no longer awaited
Outcome = Record | str | None  # what is stored now, "refused", or None for deleted


class Refusal(Exception):
    """404, 409 or 422."""


class Api:
    """The Leases, and all that ever happened to them."""

    def __init__(self) -> None:
        self.version = 1
        self.leases: dict[str, Record] = {}
        self.changes: list[tuple[str, Record, bool]] = []
        self.writes = 0

    def put(self, name: str, holder: str, transitions: int) -> Record:
        self.version += 1
        self.writes += 1
        record = self.leases[name] = Record(name, self.version, holder, transitions)
        self.changes.append((name, record, False))
        return record

    def delete(self, name: str) -> None:
        old = self.leases.pop(name)
        self.version += 1
        self.writes += 1
        self.changes.append((name, old, True))

    def do(self, action: Action) -> Record | None:
        """At once and whole, as an API does. Raises ``Refusal``."""
        there = self.leases.get(action.name)
        match action:
            case Renew() | End():
                if there is None or there.holder != action.session:
                    raise Refusal
                holder = there.holder if isinstance(action, Renew) else ""
                return self.put(action.name, holder, there.transitions)
            case Start() | Take():
                if (there.version if there else None) != action.version:
                    raise Refusal
                return self.put(action.name, action.session, action.transitions)
            case Fence() | Give():
                if there is None or there.version != action.version:
                    raise Refusal
                return self.put(action.name, "", action.transitions)
            case Remove():
                if there is None:
                    raise Refusal
                self.delete(action.name)
                return None


@dataclass
class Clock:
    """``speed``: seconds of it in a second of the world."""

    speed: float
    offset: float

    def read(self, now: float) -> float:
        return self.offset + self.speed * now

    def when(self, reading: float) -> float:
        return (reading - self.offset) / self.speed


class Host:
    """A node: its kernel, and its agent while there is one."""

    def __init__(self, world: World, name: str, clock: Clock) -> None:
        self.world, self.name, self.clock = world, name, clock
        self.kernel: dict[Address, float] = {}
        self.vips: dict[Address, Vip] = {}
        self.mute = self.deaf = self.frozen = False
        self._waiting: list[Callable[[], None]] = []
        self._runs = 0
        self.election: Election | None = None

    def answers(self, address: Address) -> bool:
        return self.clock.read(self.world.now) < self.kernel.get(address, -math.inf)

    def start(self) -> None:
        """A new agent, which lists first."""
        self._runs += 1
        self.election = Election(self.name, lambda: f"{self.name}_{next(self.world.numbers)}")
        self._written: set[Address] = set()
        self._position = self._heard = 0.0
        self._asked: set[Action] = set()
        self._listing = self._planned = False
        self._list(first=True)

    def kill(self) -> None:
        self._runs += 1
        self.election = None
        self._waiting.clear()
        self.frozen = False

    def stop(self) -> None:
        """As on SIGTERM."""
        if self.election:
            self.election.stop()
            self.kernel.clear()
            self._decide()
            self.kill()

    def freeze(self, frozen: bool) -> None:
        self.frozen = frozen
        if not frozen:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each()

    def want(self, vips: dict[Address, Vip]) -> None:
        self.vips = vips
        if self.election:
            self._run_now(lambda: self._want())

    def _want(self) -> None:
        if self.election:
            self.election.want(self.vips, self._now())
            self._decide()

    def _now(self) -> float:
        return self.clock.read(self.world.now)

    def _run_now(self, what: Callable[[], None]) -> None:
        """In the agent of this run, as soon as it is not frozen."""
        run = self._runs

        def guarded() -> None:
            if run == self._runs:
                if self.frozen:
                    self._waiting.append(guarded)
                else:
                    what()

        guarded()

    def _later(self, when: float, what: Callable[[], None]) -> None:
        run = self._runs

        def guarded() -> None:
            if run == self._runs:
                self._run_now(what)

        self.world.at(when, guarded)

    def _decide(self) -> None:
        if self.election is None:
            return
        actions, later = self.election.due(self._now())
        assert later > self._now(), "it would be asked again and again"
        self._sync()
        for action in actions:
            self._send(action)
        if self.election.stale and not self._listing:
            self._list()
        if later < math.inf:
            self._later(max(self.world.now, self.clock.when(later)) + 1e-6, self._decide)

    def _sync(self) -> None:
        held = self.election.held() if self.election else {}
        for gone in self._written - held.keys():
            self.kernel.pop(gone, None)
        self.kernel |= held
        self._written = set(held)

    def _send(self, action: Action) -> None:
        """The request may be lost, or its answer; after a while neither is awaited any more.

        It arrives also when the agent is killed meanwhile, but the next agent never hears of it.
        """
        run = self._runs
        if isinstance(action, Give):
            self.kernel.pop(action.address, None)
        answered: list[bool] = []

        def give_up() -> None:
            if not answered and self.election:
                answered.append(False)
                self.election.failed(action, self._now())
                self._decide()

        def back(outcome: Outcome) -> None:
            if not answered and self.election:
                answered.append(True)
                if isinstance(outcome, str):
                    self.election.refused(action, self._now())
                else:
                    self.election.succeeded(action, outcome, self._now())
                self._sync()
                self._decide()

        def arrive() -> None:
            try:
                outcome: Outcome = self.world.api.do(action)
            except Refusal:
                outcome = "refused"
            self.world.publish()
            if not self._is_lost(self.deaf) and run == self._runs:
                self._later(self.world.now + self.world.delay(), lambda: back(outcome))

        if not self._is_lost(self.mute):
            self.world.at(self.world.now + self.world.delay(), arrive)
        self._later(self.world.now + (SECONDS if isinstance(action, Renew) else PATIENCE), give_up)

    def cut_off(self, cut: bool) -> None:
        """``mute``: what it sends is lost; ``deaf``: what it is sent is late, or lost if it is an answer."""
        self.mute = self.deaf = cut

    def _is_lost(self, always: bool) -> bool:
        return always or self.world.random.random() < self.world.loss

    def _list(self, first: bool = False) -> None:
        self._listing = True
        run = self._runs

        def back(records: list[Record], version: int, position: int) -> None:
            if self.election is None:
                return
            self._listing = False
            self.election.listed(records, version, self._now())
            if first:
                self._position = position
                self._watch()
                self._want()
            self._decide()

        def arrive() -> None:
            if run != self._runs:
                return
            if self._is_lost(self.mute or self.deaf):
                self._later(self.world.now + RETRY, lambda: self._list(first))
                return
            api = self.world.api
            found, version, position = list(api.leases.values()), api.version, len(api.changes)
            self._later(self.world.now + self.world.delay(), lambda: back(found, version, position))

        self.world.at(self.world.now + self.world.delay(), arrive)

    def _watch(self) -> None:
        """Takes what happened since, in order, each after a delay of its own."""
        self._planned = False
        changes = self.world.api.changes
        if self.deaf or self._position >= len(changes) or self.election is None:
            return
        name, record, gone = changes[int(self._position)]
        self._position += 1
        if gone:
            self.election.miss(name, record.version, self._now())
        else:
            self.election.see(record, self._now())
        self._decide()
        self.hear()

    def hear(self) -> None:
        """Something happened at the API."""
        if self.election and self._position < len(self.world.api.changes) and not self._planned:
            self._planned = True
            self._later(self.world.now + self.world.delay(), self._watch)


class World:
    """``run`` lets time pass; whenever something has happened, ``check`` is called."""

    def __init__(self, seed: int, names: str = "abc", delay: float = 0.01, loss: float = 0.0) -> None:
        self.random = Random(seed)
        self.now = 100.0
        self.numbers = itertools.count(1)
        self.longest, self.loss = delay, loss
        self.api = Api()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self.hosts = {
            name: Host(self, name, Clock(self.random.uniform(0.96, 1.04), self.random.uniform(0, 1e6)))
            for name in names
        }

    def delay(self) -> float:
        """Most are short, and those that are not are of all lengths."""
        longest = self.longest if self.random.random() < 0.5 else 0.005
        return self.random.uniform(0.001, longest)

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self.numbers), what))

    def publish(self) -> None:
        for host in self.hosts.values():
            host.hear()

    def want(self, *names: str, keepers: str = "") -> None:
        """Candidates, in order; none: there is nothing to announce."""
        vip = Vip(VIP, tuple(names), frozenset(keepers), (1,))
        for host in self.hosts.values():
            host.want({VIP: vip} if names else {})

    def start(self) -> None:
        for host in self.hosts.values():
            host.start()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, what = heapq.heappop(self._events)
            what()
            self.check()
        self.now = end
        self.check()

    def check(self) -> None:
        answering = self.answering()
        assert len(answering) <= 1, f"{answering} answer at {self.now}"

    def answering(self) -> list[str]:
        return [name for name, host in self.hosts.items() if host.answers(VIP)]

    def until(self, condition: Callable[[], bool], patience: float) -> float:
        """Seconds until it holds."""
        start = self.now
        while not condition():
            assert self.now - start < patience, f"not within {patience} s; answering: {self.answering()}"
            self.run(0.005)
        return self.now - start

    def holder(self) -> str:
        """By the API."""
        return next((node_of(r.holder) for r in self.api.leases.values() if "-ip-" in r.name), "")
