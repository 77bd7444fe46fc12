"""The sets of backends in the kernel, and the words in ``services`` that lead to them.

A set is never changed. For each change a new one is written, and then one word is switched to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tulle.kernel.bpf_maps import Map
from tulle.kernel.btf import Contract
from tulle.pod_to_service.entries import LAST_SET, RING_SLOT_SIZE, Content, Entries, Header, split
from tulle.pod_to_service.found import Found, Port
from tulle.pod_to_service.garbage import Garbage
from tulle.pod_to_service.regions import Region
from tulle.pod_to_service.ring import make_ring
from tulle.pod_to_service.rings import Rings


@dataclass(slots=True)
class Batch:
    """What is to be written: ``fresh`` for new indices, ``services`` for known ones; ``taken`` was found."""

    backends: dict[bytes, bytes] = field(default_factory=dict)
    members: dict[bytes, bytes] = field(default_factory=dict)
    sets: dict[bytes, bytes] = field(default_factory=dict)
    fresh: dict[int, bytes] = field(default_factory=dict)
    services: dict[bytes, bytes] = field(default_factory=dict)
    taken: list[Port] = field(default_factory=list)
    rings: list[Region] = field(default_factory=list)

    def as_garbage(self) -> Garbage:
        return Garbage(
            list(self.sets), list(self.backends), list(self.members), list(self.fresh), list(self.rings)
        )


class Sets:
    """Numbers for sets and indices, and what is written under them."""

    def __init__(self, maps: Mapping[str, Map], contract: Contract, found: Found) -> None:
        self._maps = maps
        self._entries = Entries(contract)
        self._next_index = max(self._entries.first, found.last_index + 1)
        self._next_set = found.last_set + 1
        self._free_indices: list[int] = []
        rings = [port.ring for port in found.ports.values() if port.ring]
        self._rings = Rings(maps["rings"], [*rings, *found.stray_rings])

    def checked(self, port: Port) -> Port:
        """A port that was found: one whose ring is another than it should be by now counts as without."""
        if port.ring:
            ring = make_ring(tuple(split(port.content.backends)))
            if self._rings.read(port.ring, len(ring)) != ring:
                return replace(port, content=port.content._replace(ringed=False))
        return port

    def new_index(self) -> int:
        """One that nobody is led by, with no hits."""
        if self._free_indices:
            index, hits = self._free_indices.pop(), self._maps["service_hits"]
            hits[self._entries.number(index)] = bytes(hits.value_size)
            return index
        self._next_index += 1
        return self._next_index - 1

    def add(self, index: int, service: int, content: Content, fresh: bool, batch: Batch) -> Port:
        """A new set for an index, which is led to it once the batch is written.

        ``service``: the number by which clients with affinity are known.
        """
        entries, number, serving = self._entries, self._new_set(), 0
        if content.serving:
            serving = number if content.serving == content.backends else self._new_set()
        header = Header(service, content.size, content.affinity, serving, content.on_empty)
        ring = None
        if content.ringed:
            ring, header = self._add_ring(content, header, batch)
        slots = entries.slots(number, range(content.size))
        batch.backends.update(zip(slots, split(content.backends), strict=True))
        batch.members.update(dict.fromkeys(self._member_keys(number, serving, content), b"\1"))
        batch.sets[entries.number(number)] = entries.header(header)
        if fresh:
            batch.fresh[index] = entries.number(number)
        else:
            batch.services[entries.number(index)] = entries.number(number)
        return Port(index, number, serving, service, content, ring)

    def _add_ring(self, content: Content, header: Header, batch: Batch) -> tuple[Region | None, Header]:
        """The ring is written at once: nobody is led there yet. Without room for it, the set has none."""
        written = make_ring(tuple(split(content.backends)))
        region = self._rings.write(written)
        if region is None:
            return None, header
        batch.rings.append(region)
        return region, header._replace(ring=region.start, ring_size=len(written) // RING_SLOT_SIZE)

    def _new_set(self) -> int:
        """A number that no set had before, not even an earlier agent's: flows remember which led them."""
        self._next_set += 1
        return self._next_set - 1

    def _member_keys(self, number: int, serving: int, content: Content) -> list[bytes]:
        keys: list[bytes] = []
        if content.needs_members:
            keys += self._entries.members(number, content.backends)
        if serving and serving != number:
            keys += self._entries.members(serving, content.serving)
        return keys

    def write(self, batch: Batch) -> None:
        """Writes what nobody is led to yet, which may fail; then the words that lead there, which cannot.

        Raises ``KernelError``; then nobody is led to anything of the batch, which is garbage.
        """
        number = self._entries.number
        for name in ("backends", "members", "sets"):
            update(self._maps[name], getattr(batch, name))
        words = {number(LAST_SET): number(self._next_set - 1)}
        words |= {number(index): value for index, value in batch.fresh.items()}
        update(self._maps["services"], words | batch.services)

    def retire(self, port: Port, garbage: Garbage, with_index: bool) -> None:
        """Nobody is led to its set any more; nor by its index, if that goes, too."""
        entries = self._entries
        garbage.sets.append(entries.number(port.set))
        garbage.slots += entries.slots(port.set, range(port.content.size))
        garbage.members += self._member_keys(port.set, port.serving, port.content)
        if port.ring:
            garbage.rings.append(port.ring)
        if with_index:
            garbage.indices.append(port.index)

    def free(self, garbage: Garbage) -> None:
        """Deletes what no program can see any more. Raises ``KernelError``."""
        none = self._entries.number(0)
        update(self._maps["services"], {self._entries.number(i): none for i in garbage.indices})
        self._maps["sets"].discard_all(garbage.sets)
        self._maps["backends"].discard_all(garbage.slots)
        self._maps["members"].discard_all(garbage.members)
        self._rings.free(garbage.rings)
        self._free_indices += garbage.indices


def update(table: Map, entries: Mapping[bytes, bytes]) -> None:
    """Writes many entries at once. Raises ``KernelError``."""
    table.update_all(list(entries), list(entries.values()))
