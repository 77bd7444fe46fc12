"""Who answers for which address: one node at a time, another one soon after it fell silent.

Why there are never two: a node answers for an address while its session is the holder of the grant, and no
longer than ``SECONDS`` after it *asked* for the last renewal that was granted; the kernel sees to that.
Another node takes a grant only from nobody, or from a session that is over: it has seen no renewal for
``SECONDS`` + ``MARGIN``, *and* its Fence was granted, which the API refuses when there was a renewal that it
has not seen. A session that was fenced cannot be renewed, and no session comes twice. So nothing depends on
how late a node hears of anything.

A holder that was cut off for a while goes on with its session if nobody has fenced it meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

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
from tulle.external_to_service.announce.known import Known
from tulle.external_to_service.announce.leases import INTERVAL, SECONDS, Record, beat_name
from tulle.external_to_service.announce.plans import STEP, Plan, Plans
from tulle.external_to_service.announce.vips import Vip
from tulle.model.address import Address

RETRY = 0.3
"""Seconds until what failed is tried again."""


class Election:
    """One node's part in it. ``due`` says what to do; tell it of all that comes back, and of all that is
    seen.

    ``now`` is in seconds of the clock that the kernel reads (CLOCK_BOOTTIME). ``new_session`` never returns
    the same twice, in no run. ``stale``: what is known is behind the API; list the Leases.
    """

    def __init__(self, node: str, new_session: Callable[[], str]) -> None:
        self._new_session = new_session
        self._beat = beat_name(node)
        self._known = Known()
        self._plans = Plans(node, self._known)
        self._vips: Mapping[Address, Vip] | None = None
        self._session = ""
        self._until = -math.inf
        self._renew_at = -math.inf
        self._busy: set[str] = set()
        self._retry: dict[str, float] = {}
        self._stopping = False
        self.stale = False

    def want(self, vips: Mapping[Address, Vip], now: float) -> None:
        """What is to be announced from now on."""
        self._vips = vips
        self._known.grants.want(vips, now)

    def stop(self) -> None:
        """From now on nothing is held; ``due`` says how the others are told."""
        self._stopping = True

    def held(self) -> dict[Address, float]:
        """The addresses that this node answers for, and until when unless the session is renewed."""
        if not self._session or self._stopping:
            return {}
        return {address: self._until for address in self._known.grants if self._is_mine(address)}

    # What is seen

    def see(self, record: Record, now: float) -> bool:
        """A Lease as an informer, or our own write, says it is. Whether ``due`` may have something new."""
        news = self._known.see(record, now)
        if news and record.name == self._beat and record.holder != self._session:
            self._lose_session()
        return news

    def miss(self, name: str, version: int, now: float) -> bool:
        """A Lease that was last seen at ``version`` is gone. Whether ``due`` may have something new."""
        news = self._known.miss(name, version, now)
        if news and name == self._beat:
            self._lose_session()
        return news

    def listed(self, records: Iterable[Record], version: int, now: float) -> None:
        """All Leases as they were at ``version``."""
        found = {record.name: record for record in records}
        for name, last in self._known.beyond(found, version):
            self.miss(name, last, now)
        for record in found.values():
            self.see(record, now)
        self._known.are_as_of(version)
        self.stale = False
        for name, when in self._retry.items():
            if when == math.inf:
                self._retry[name] = now + INTERVAL + STEP  # whose beat it is may renew first

    # What to do

    def due(self, now: float) -> tuple[list[Action], float]:
        """What to do now, and when to ask again if nothing is heard until then."""
        begun: list[Action] = []
        later = math.inf
        for wish, action in self._plan_all(now):
            when = wish if isinstance(action, Renew) else max(wish, self._retry.get(action.name, 0.0))
            if when > now:
                later = min(later, when)
            elif action.name not in self._busy or isinstance(action, Renew):
                begun.append(self._begin(action, now))
                if isinstance(action, Renew | Start):
                    later = min(later, now + INTERVAL)
        return begun, later

    def _plan_all(self, now: float) -> list[Plan]:
        if self._vips is None or self._stopping:
            return [(now, End(self._beat, self._session))] if self._session else []
        addresses = dict.fromkeys([*self._known.grants, *self._vips])
        asked = (self._plans.plan(a, self._vips.get(a), self._session, now) for a in addresses)
        plans = [plan for plan in asked if plan]
        needed = bool(self.held()) or any(
            wish <= now and isinstance(action, Take | Fence) for wish, action in plans
        )
        plans += self._plan_session(needed, now)
        return [(wish, a) for wish, a in plans if wish > now or self._session or not isinstance(a, Take)]

    def _plan_session(self, needed: bool, now: float) -> Iterator[Plan]:
        beat = self._known.beats.get(self._beat)
        there = beat if beat and beat.version else None
        if needed and self._session:
            yield self._renew_at, Renew(self._beat, self._session, now)
        elif needed:
            version = there.version if there else None
            transitions = there.transitions + 1 if there else 0
            yield now, Start(self._beat, self._new_session(), version, transitions, now)
        elif there or self._session:
            yield now, Remove(self._beat)

    def _is_mine(self, address: Address) -> bool:
        return self._known.grants.is_held(address, self._session)

    def _begin(self, action: Action, now: float) -> Action:
        """What is asked for counts from now on where that makes us answer for less."""
        if isinstance(action, Renew):
            self._renew_at = now + INTERVAL
            return action
        self._busy.add(action.name)
        if isinstance(action, Give):
            self._known.grants.give(action.address, action.version)
        elif action.name == self._beat and isinstance(action, End | Remove):
            self._lose_session()
        return action

    def _lose_session(self) -> None:
        self._session, self._until = "", -math.inf

    # What came back

    def succeeded(self, action: Action, record: Record | None, now: float) -> None:
        """``record``: the Lease as it was stored; None where it was deleted."""
        self._finish(action)
        if isinstance(action, Renew):
            if action.session == self._session:
                self._until = max(self._until, action.at + SECONDS)
        elif isinstance(action, Remove):
            self._known.forget(action.name, now)
        elif record:
            if isinstance(action, Start):
                self._start(action, record)
            self.see(record, now)

    def _start(self, action: Start, record: Record) -> None:
        known = self._known.beats.get(self._beat)
        if not self._stopping and (known is None or known.version <= record.version):
            self._session = action.session
            self._until, self._renew_at = action.at + SECONDS, action.at + INTERVAL

    def refused(self, action: Action, now: float) -> None:
        """The API has another state than was thought: 404, 409, or 422."""
        self._finish(action)
        if isinstance(action, Renew):
            if action.session == self._session:
                self._lose_session()
        elif isinstance(action, Remove):
            self._known.forget(action.name, now)
        if not isinstance(action, End | Remove):
            self.stale = True
            self._retry[action.name] = now + RETRY

    def failed(self, action: Action, now: float) -> None:
        """There was no answer: it may have been done, may be done later, or never."""
        self._finish(action)
        if isinstance(action, Fence):
            # While the API was away, nobody was heard, alive or not.
            self._retry[action.name] = math.inf
            self.stale = True
        elif not isinstance(action, Renew):
            self._retry[action.name] = now + RETRY

    def _finish(self, action: Action) -> None:
        if not isinstance(action, Renew):
            self._busy.discard(action.name)
            self._retry.pop(action.name, None)
