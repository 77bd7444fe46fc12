"""Where the kernel leads whoever asks for a Service: the map ``frontends``, and whose each entry is.

An entry that is taken out, or given another value, leaves memory that the next entry gets at once, while a
program may still be reading it. So new ones are written only after every such program has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tulle.errors import KernelError
from tulle.kernel import libc
from tulle.kernel.bpf_maps import Map
from tulle.kube.resources import Key


class Leads:
    """``found``: what an earlier agent left. Whatever a Service asks for leaves it."""

    def __init__(self, table: Map, found: dict[bytes, bytes]) -> None:
        self._table = table
        self._found = found
        self._frontends: dict[Key, dict[bytes, bytes]] = {}
        self._owners: dict[bytes, Key] = {}
        self._deletions = 0  # how often entries, or values of them, were taken out
        self._unseen = 0  # and how many of these no program can see any more

    @property
    def deletions(self) -> int:
        """What ``are_unseen`` is to be told once all programs have ended that run now; 0: nothing."""
        return self._deletions if self._unseen < self._deletions else 0

    def are_unseen(self, deletions: int) -> None:
        """No program can see any more what was taken out until then."""
        self._unseen = max(self._unseen, deletions)

    def forget_found(self) -> None:
        """What nobody asked for goes."""
        self._take_out(list(self._found))
        self._found.clear()

    def lead(self, wanted: Mapping[Key, Mapping[bytes, bytes]]) -> None:
        """From now on the Services have these frontends and no others, with these values.

        An address may change hands: whoever has it now keeps it when the other goes. Raises ``KernelError``;
        then what is new is not there.
        """
        claimed = {frontend: (key, value) for key, each in wanted.items() for frontend, value in each.items()}
        gone = [f for k in wanted for f in self._frontends.get(k, ()) if f not in claimed]
        new: dict[bytes, bytes] = {}
        try:
            for frontend, (key, value) in claimed.items():
                before = self._written(frontend)
                if before is None:
                    new[frontend] = value
                    continue
                if before != value:
                    self._insert({frontend: value})  # one by one: each frees what it replaces
                    self._deletions += 1
                self._own(key, frontend, value)
            self._insert(new)
        except KernelError:
            self._take_out([*new, *gone])
            raise
        for frontend, value in new.items():
            self._own(claimed[frontend][0], frontend, value)
        self._take_out(gone)

    def _written(self, frontend: bytes) -> bytes | None:
        owner = self._owners.get(frontend)
        if owner is not None:
            return self._frontends[owner][frontend]
        return self._found.get(frontend)

    def _insert(self, frontends: Mapping[bytes, bytes]) -> None:
        """Their memory must not be what a program still reads as something else."""
        if frontends and self._unseen < self._deletions:
            libc.await_readers()
            self._unseen = self._deletions
        self._table.update_all(list(frontends), list(frontends.values()))

    def _take_out(self, frontends: Sequence[bytes]) -> None:
        self._table.discard_all(frontends)
        self._deletions += bool(frontends)
        for frontend in frontends:
            self._disown(frontend)

    def _own(self, key: Key, frontend: bytes, value: bytes) -> None:
        if self._owners.get(frontend, key) != key:
            self._disown(frontend)
        self._owners[frontend] = key
        self._frontends.setdefault(key, {})[frontend] = value
        self._found.pop(frontend, None)

    def _disown(self, frontend: bytes) -> None:
        owner = self._owners.pop(frontend, None)
        if owner is None:
            return
        del self._frontends[owner][frontend]
        if not self._frontends[owner]:
            del self._frontends[owner]
