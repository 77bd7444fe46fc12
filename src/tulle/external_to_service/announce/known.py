"""What one node knows of the Leases of all, as it is told: by an informer, by lists, by its own writes."""

from __future__ import annotations

from collections.abc import Container

from tulle.external_to_service.announce.beats import Beats
from tulle.external_to_service.announce.grants import Grants
from tulle.external_to_service.announce.leases import Record, address_of, grant_name, is_beat


class Known:
    """``beats`` say who lives, ``grants`` who holds which address. What is told may come late and out of
    order: an older state than what is known changes nothing.
    """

    def __init__(self) -> None:
        self.beats = Beats()
        self.grants = Grants()
        self._as_of = 0

    def see(self, record: Record, now: float) -> bool:
        """A Lease as it is at the record's version. Whether that is news."""
        if record.version <= self._as_of:
            return False
        if is_beat(record.name):
            return self.beats.see(record, now)
        address = address_of(record.name)
        return address is not None and self.grants.see(address, record, now)

    def miss(self, name: str, version: int, now: float) -> bool:
        """A Lease that was last seen at ``version`` is gone. Whether that is news."""
        if is_beat(name):
            beat = self.beats.get(name)
            if beat is None or beat.version > version:
                return False
            self.beats.lose(name, now)
            return True
        address = address_of(name)
        grant = self.grants.get(address) if address else None
        if address is None or grant is None or grant.version > version:
            return False
        self.grants.lose(address, now)
        return True

    def beyond(self, found: Container[str], version: int) -> list[tuple[str, int]]:
        """Leases, and their versions, that a list of ``version`` would have if they were still there."""
        there = {beat.name: beat.version for beat in self.beats.all() if beat.version}
        there |= {grant_name(a): g.version for a in self.grants if (g := self.grants.get(a)) and g.version}
        return [(name, last) for name, last in there.items() if name not in found and last <= version]

    def are_as_of(self, version: int) -> None:
        """All is known up to ``version``: what is older is not believed any more."""
        self._as_of = max(self._as_of, version)

    def forget(self, name: str, now: float) -> None:
        """We have deleted this Lease."""
        address = address_of(name)
        if address is None:
            self.beats.lose(name, now)
        else:
            self.grants.forget(address, now)
