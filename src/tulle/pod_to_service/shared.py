"""Whose the addresses of load balancers are: Services on different ports may share one. Pure bookkeeping."""

from __future__ import annotations

from collections import defaultdict

from tulle.kube.resources import Key


class Shared:
    """Who has an address now, among others."""

    def __init__(self) -> None:
        self._holders: defaultdict[bytes, set[Key]] = defaultdict(set)
        self._held: dict[Key, frozenset[bytes]] = {}

    def put(self, key: Key, addresses: frozenset[bytes]) -> frozenset[bytes]:
        """The addresses of one Service as of now. Returns them, and those that it had before."""
        before = self._held.pop(key, frozenset())
        if addresses:
            self._held[key] = addresses
        for address in before - addresses:
            self._holders[address].discard(key)
            if not self._holders[address]:
                del self._holders[address]
        for address in addresses:
            self._holders[address].add(key)
        return before | addresses

    def __contains__(self, address: bytes) -> bool:
        """Whether somebody has it."""
        return address in self._holders
