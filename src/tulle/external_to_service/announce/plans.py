"""What a node should do about each address, and when: take it, give it away, or clean up behind others."""

from __future__ import annotations

from itertools import islice

from tulle.external_to_service.announce.actions import Action, Fence, Give, Remove, Take
from tulle.external_to_service.announce.grants import Grant
from tulle.external_to_service.announce.known import Known
from tulle.external_to_service.announce.leases import beat_name, grant_name, node_of
from tulle.external_to_service.announce.vips import Vip
from tulle.model.address import Address

STEP = 0.1
"""Seconds by which each candidate waits longer than the one before it."""
MOST_STEPS = 3
ORPHANED = 10.0
"""Seconds until anybody removes the grant of an address that is announced no more."""

Plan = tuple[float, Action]
"""From when on, and what."""


class Plans:
    """Those of ``node``: they follow from what is ``known``."""

    def __init__(self, node: str, known: Known) -> None:
        self._node = node
        self._known = known

    def plan(self, address: Address, vip: Vip | None, session: str, now: float) -> Plan | None:
        """``vip``: None where nobody is to announce it any more. ``session``: ours, empty without one."""
        grant = self._known.grants.get(address)
        candidate = vip is not None and self._node in vip.candidates
        if grant and node_of(grant.holder) == self._node:
            if candidate or (vip and self._node in vip.keepers):
                held = self._known.grants.is_held(address, session)
                return None if held else (now, _take(address, grant, session))
            return (now, _give(address, grant)) if grant.version else None
        if vip is None:
            return self._removal(address, now) if grant and grant.version else None
        return self._capture(address, vip, grant, session, now) if candidate else None

    def _removal(self, address: Address, now: float) -> Plan:
        free = self._known.grants.free_at(address, self._known.beats, now)
        patience = 0.0 if self._known.grants.was_given(address) else ORPHANED
        return free + patience, Remove(grant_name(address))

    def _capture(self, address: Address, vip: Vip, grant: Grant | None, session: str, now: float) -> Plan:
        free = self._known.grants.free_at(address, self._known.beats, now)
        when = free + self._rank(vip, now) * STEP
        if grant and grant.version and grant.holder:
            beat = self._known.beats.get(beat_name(node_of(grant.holder)))
            if beat and beat.session == grant.holder:
                return when, Fence(beat.name, beat.version, beat.transitions)
        return when, _take(address, grant, session)

    def _rank(self, vip: Vip, now: float) -> int:
        """How many come before us, without those that are known to be down; at most ``MOST_STEPS``."""
        before = vip.candidates[: vip.candidates.index(self._node)]
        up = (node for node in before if not self._known.beats.is_down(beat_name(node), now))
        return len(list(islice(up, MOST_STEPS)))


def _take(address: Address, grant: Grant | None, session: str) -> Take:
    version = grant.version or None if grant else None
    transitions = grant.transitions + 1 if grant else 0
    return Take(grant_name(address), address, session, version, transitions)


def _give(address: Address, grant: Grant) -> Give:
    return Give(grant_name(address), address, grant.version, grant.transitions)
