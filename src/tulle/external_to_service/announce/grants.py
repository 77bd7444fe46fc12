"""What one node knows of the grants: who holds which address, and since when it is free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tulle.external_to_service.announce.beats import Beats
from tulle.external_to_service.announce.leases import (
    MARGIN,
    SECONDS,
    Record,
    beat_name,
    node_of,
)
from tulle.model.address import Address


@dataclass(frozen=True, slots=True)
class Grant:
    """Who holds an address. ``version`` 0: the Lease was deleted when ``holder`` had it; ``since``: since
    when it is as it is, by our clock.
    """

    version: int
    holder: str
    transitions: int
    since: float


class Grants:
    """Times are as those of ``Beats``. A grant that was held when its Lease was deleted is remembered: its
    holder may not have heard of it yet.
    """

    def __init__(self) -> None:
        self._grants: dict[Address, Grant] = {}
        self._given: dict[Address, int] = {}
        self._wanted_since: dict[Address, float] = {}

    def __iter__(self) -> Iterator[Address]:
        return iter(self._grants)

    def get(self, address: Address) -> Grant | None:
        return self._grants.get(address)

    def want(self, addresses: Iterable[Address], now: float) -> None:
        """Which of them matter from now on, be there a grant or not."""
        self._wanted_since = {address: self._wanted_since.get(address, now) for address in addresses}
        for address, grant in list(self._grants.items()):
            if not grant.version and address not in self._wanted_since:
                del self._grants[address]

    def see(self, address: Address, record: Record, now: float) -> bool:
        """Whether it is news: an older state than what is known is not."""
        old = self._grants.get(address)
        if old and record.version <= old.version:
            return False
        same = old is not None and old.version and old.holder == record.holder
        since = old.since if old and same else now
        self._grants[address] = Grant(record.version, record.holder, record.transitions, since)
        return True

    def lose(self, address: Address, now: float) -> None:
        """The Lease is gone."""
        grant = self._grants[address]
        self.forget(address, now)
        if grant.holder:
            self._grants[address] = Grant(0, grant.holder, 0, now)

    def forget(self, address: Address, now: float) -> None:
        """The Lease was removed because nobody needed it."""
        self._grants.pop(address, None)
        self._given.pop(address, None)
        if address in self._wanted_since:
            self._wanted_since[address] = now

    def give(self, address: Address, version: int) -> None:
        """We are about to give it away: what we had at ``version`` counts no more, whatever comes of it."""
        self._given[address] = version

    def was_given(self, address: Address) -> bool:
        """Whether it was us who had it last."""
        return address in self._given

    def is_held(self, address: Address, session: str) -> bool:
        """Whether that session, one of ours, holds it."""
        grant = self._grants[address]
        return bool(session) and grant.holder == session and grant.version > self._given.get(address, 0)

    def free_at(self, address: Address, beats: Beats, now: float) -> float:
        """From when on nobody answers for it; where the holder lives, the earliest that it could be."""
        grant = self._grants.get(address)
        if grant is None:
            return self._wanted_since.get(address, now)
        if not grant.holder:
            return grant.since
        if not grant.version:
            return grant.since + SECONDS + MARGIN
        return beats.over_at(beat_name(node_of(grant.holder)), grant.holder, now)
