"""What one node knows of the beats of all: who lives, and since when it is over with a session."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tulle.external_to_service.announce.leases import MARGIN, SECONDS, Record


@dataclass(frozen=True, slots=True)
class Beat:
    """``seen``: when this state was first seen here; ``since``: when its session was, or that it has none."""

    name: str
    version: int
    session: str
    transitions: int
    seen: float
    since: float


class Beats:
    """Times are seconds of this node's own clock, for which no other clock need agree with it."""

    def __init__(self) -> None:
        self._beats: dict[str, Beat] = {}

    def get(self, name: str) -> Beat | None:
        return self._beats.get(name)

    def all(self) -> Iterable[Beat]:
        return self._beats.values()

    def see(self, record: Record, now: float) -> bool:
        """Whether the session is another one than before; an older state than what is known is not news."""
        old = self._beats.get(record.name)
        if old and record.version <= old.version:
            return False
        same = old is not None and old.session == record.holder
        since = old.since if old and same else now
        if old and old.session and not record.holder:
            # Ended, or fenced after it was silent: then it has been over for as long as it could be.
            since = min(now, old.seen + SECONDS + MARGIN)
        self._beats[record.name] = Beat(
            record.name, record.version, record.holder, record.transitions, now, since
        )
        return not same

    def lose(self, name: str, now: float) -> None:
        """The Lease is gone: the session that it had can never be renewed, but lives on for a while."""
        old = self._beats.get(name)
        if old and old.version:
            self._beats[name] = Beat(name, 0, "", 0, now, now)

    def over_at(self, name: str, session: str, now: float) -> float:
        """From when on nobody answers by ``session``, whose beat has this name.

        Where the beat still has the session, that is so only if it does not change until it is fenced. Must
        be asked of a grant only that is not newer than what is known of beats.
        """
        beat = self._beats.get(name)
        if beat is None:
            beat = self._beats[name] = Beat(name, 0, "", 0, now, now)
        if beat.session == session:
            return beat.seen + SECONDS + MARGIN
        if beat.version and not beat.session:  # ended by its node, or fenced: nothing is answered any more
            return beat.since
        return beat.since + SECONDS + MARGIN

    def is_down(self, name: str, now: float) -> bool:
        """Whether its node is known not to hold anything soon. Of a node that never held anything, nothing is
        known.
        """
        beat = self._beats.get(name)
        if beat is None or not beat.version:
            return False
        return not beat.session or now >= beat.seen + SECONDS + MARGIN
