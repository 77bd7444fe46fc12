"""Who may use which frontends: the map ``source_ranges``, in which each set of networks has a number (S-61).

A set is never changed: another one gets a number of its own, and is there before a frontend names it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tulle.errors import KernelError
from tulle.kernel.bpf_maps import Map
from tulle.kube.resources import Key
from tulle.model.address import Network
from tulle.pod_to_service.entries import Entries
from tulle.pod_to_service.found import Found
from tulle.pod_to_service.garbage import Garbage

Sources = frozenset[Network]


class Guards:
    """``found``: what an earlier agent left; a set that is asked for leaves it."""

    def __init__(self, table: Map, entries: Entries, found: Found) -> None:
        self._table = table
        self._entries = entries
        self._found = {
            frozenset(entries.read_range(key)[1] for key in keys): guard
            for guard, keys in found.ranges.items()
        }
        self._stray = dict(found.ranges)
        named = (entries.read_lead(value).guard for value in set(found.frontends.values()))
        self._next = max(*found.ranges, *named, 0, 0) + 1
        self._numbers: dict[Sources, int] = {}
        self._sources: dict[int, Sources] = {}
        self._users: defaultdict[int, set[Key]] = defaultdict(set)
        self._used: dict[Key, frozenset[int]] = {}

    def number(self, sources: Iterable[Network]) -> int:
        """The guard that lets only these in. Raises ``KernelError``."""
        asked = frozenset(sources)
        known = self._numbers.get(asked)
        if known is not None:
            return known
        guard = self._found.pop(asked, None)
        if guard is None:
            guard = self._write(asked)
        else:
            del self._stray[guard]
        self._numbers[asked], self._sources[guard] = guard, asked
        return guard

    def _write(self, sources: Sources) -> int:
        guard = self._next
        self._next += 1
        keys = self._keys(guard, sources)
        try:
            self._table.update_all(keys, [b"\1"] * len(keys))
        except KernelError:
            self._table.discard_all(keys)  # nobody is led by this number
            raise
        return guard

    def _keys(self, guard: int, sources: Sources) -> list[bytes]:
        return [self._entries.range(guard, network) for network in sources]

    def use(self, key: Key, guards: frozenset[int], garbage: Garbage) -> None:
        """What a Service's frontends name as of now. What nobody names any more is garbage."""
        before = self._used.pop(key, frozenset())
        if guards:
            self._used[key] = guards
        for guard in guards:
            self._users[guard].add(key)
        for guard in before - guards:
            self._users[guard].discard(key)
            if not self._users[guard]:
                del self._users[guard]
                sources = self._sources.pop(guard)
                del self._numbers[sources]
                garbage.ranges += self._keys(guard, sources)

    def used(self, key: Key) -> frozenset[int]:
        """What its frontends name."""
        return self._used.get(key, frozenset())

    def forget_found(self, garbage: Garbage) -> None:
        """What nobody asked for goes."""
        for keys in self._stray.values():
            garbage.ranges += keys
        self._found.clear()
        self._stray.clear()
