"""Addresses that Services name in ``spec.externalIPs``: whoever wrote them there leads traffic to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set

from tulle.external_to_service.pools.claim import read
from tulle.model.address import Address
from tulle.model.balancing import BalancedService

Key = tuple[str, str]


def external_ips(service: BalancedService | None) -> frozenset[Address]:
    """What can be read of them; a Service that is gone has none."""
    texts = (service.spec.external_ips if service else None) or ()
    return frozenset(address for text in texts if (address := read(text)) is not None)


class ExternalIPs:
    """Which Services name which address."""

    def __init__(self) -> None:
        self._of: dict[Key, frozenset[Address]] = {}
        self._naming: defaultdict[Address, set[Key]] = defaultdict(set)

    def put(self, key: Key, addresses: Iterable[Address]) -> list[Address]:
        """The Service names exactly these from now on. Returns those that nobody names any more."""
        before, now = self.of(key), frozenset(addresses)
        self._of[key] = now
        if not now:
            del self._of[key]
        for address in now:
            self._naming[address].add(key)
        gone = before - now
        for address in gone:
            self._naming[address].discard(key)
        free = [address for address in gone if not self._naming[address]]
        for address in free:
            del self._naming[address]
        return free

    def of(self, key: Key) -> frozenset[Address]:
        """What a Service names."""
        return self._of.get(key, frozenset())

    def naming(self, address: Address) -> Set[Key]:
        """Who names an address."""
        return self._naming.get(address, frozenset())
