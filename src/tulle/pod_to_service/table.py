"""Keeps the kernel's Service table as planned: writes what changed, and nothing else.

A set of backends in the kernel is never changed. For each change a new one is written, and then one word in
``services`` is switched to it, for all frontends of the port at once. What was taken out is deleted only
after every program that could have seen it has ended (``libc.await_readers``): an element of a hash map is
used again at once, and whoever still looks at it would see something of another Service.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tulle.errors import KernelError
from tulle.kernel.bpf_maps import Map
from tulle.kernel.btf import Contract
from tulle.kube.resources import Key
from tulle.model.address import Network, mapped_length, to_bytes
from tulle.pod_to_service.entries import Content, Entries, Header, split
from tulle.pod_to_service.found import Found, Port, read_table
from tulle.pod_to_service.leads import Leads
from tulle.pod_to_service.plan import Backend, PortPlan

log = logging.getLogger(__name__)


class PortName(NamedTuple):
    """One port of a Service in one family: what has an index in ``services``."""

    service: Key
    port: str
    protocol: int
    family: int


@dataclass(slots=True)
class Garbage:
    """What nobody is led to any more, but somebody may still be looking at."""

    sets: list[bytes] = field(default_factory=list)
    slots: list[bytes] = field(default_factory=list)
    members: list[bytes] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    deletions: int = 0  # of frontends, by then

    def __bool__(self) -> bool:
        return bool(self.sets or self.members or self.indices or self.deletions)

    def add(self, other: Garbage) -> None:
        for name in ("sets", "slots", "members", "indices"):
            getattr(self, name).extend(getattr(other, name))


@dataclass(slots=True)
class _Batch:
    """What is to be written: ``fresh`` for new indices, ``services`` for known ones; ``taken`` was found."""

    backends: dict[bytes, bytes] = field(default_factory=dict)
    members: dict[bytes, bytes] = field(default_factory=dict)
    sets: dict[bytes, bytes] = field(default_factory=dict)
    fresh: dict[int, bytes] = field(default_factory=dict)
    services: dict[bytes, bytes] = field(default_factory=dict)
    taken: list[Port] = field(default_factory=list)

    def as_garbage(self) -> Garbage:
        return Garbage(list(self.sets), list(self.backends), list(self.members), list(self.fresh))


class Table:
    """The Service table of one node.

    What an earlier agent left in the kernel is taken over: a port whose plan is the same is not touched.
    ``own``: addresses that this node itself has; a Service with one of them is left to the node.
    """

    def __init__(self, maps: Mapping[str, Map], contract: Contract) -> None:
        self._maps = maps
        self._entries = Entries(contract)
        self._contract = contract
        self._ports: dict[Key, dict[PortName, Port]] = {}
        self._found: Found | None = read_table(maps, self._entries)
        self._next_index = max(self._entries.first, self._found.last_index + 1)
        self._next_set = self._found.last_set + 1
        self._free_indices: list[int] = []
        self._garbage = Garbage()
        self._leads = Leads(maps["frontends"], self._found.frontends)
        self._changed: list[PortName] = []
        self.own: frozenset[bytes] = frozenset()

    def apply(self, plans: Mapping[Key, tuple[PortPlan, ...]]) -> list[PortName]:
        """From now on these Services are as planned: no ports, no Service. Returns the ports that changed.

        Raises ``KernelError``; whatever was not written then is written when the plan is applied again.
        """
        batch, garbage = _Batch(), Garbage()
        changed: list[PortName] = []
        ports, frontends = {}, {}
        for key, plan in plans.items():
            before = self._ports.get(key, {})
            ports[key] = {n: self._port(n, p, before.get(n), batch, garbage) for n, p in _named(key, plan)}
            frontends[key] = self._wanted_frontends(ports[key], plan)
            for name in before.keys() - ports[key].keys():
                self._retire(before[name], garbage, with_index=True)
            changed += [n for n, p in ports[key].items() if before.get(n) != p]
            changed += before.keys() - ports[key].keys()
        self._switch(batch)
        self._keep(ports)
        self._garbage.add(garbage)
        self._changed += changed
        self._leads.lead(frontends)
        changed, self._changed = self._changed, []
        return changed

    def _switch(self, batch: _Batch) -> None:
        """Writes what nobody is led to yet, which may fail; then the words that lead there, which cannot."""
        number = self._entries.number
        try:
            for name in ("backends", "members", "sets"):
                _update(self._maps[name], getattr(batch, name))
            _update(self._maps["services"], {number(i): value for i, value in batch.fresh.items()})
        except KernelError:
            self._garbage.add(batch.as_garbage())
            if self._found:
                self._found.ports |= {port.index: port for port in batch.taken}
            raise
        _update(self._maps["services"], batch.services)

    def _keep(self, ports: Mapping[Key, dict[PortName, Port]]) -> None:
        for key, each in ports.items():
            if each:
                self._ports[key] = each
            else:
                self._ports.pop(key, None)

    def _port(
        self, name: PortName, plan: PortPlan, before: Port | None, batch: _Batch, garbage: Garbage
    ) -> Port:
        content = self._entries.content(plan)
        if before is None and (before := self._take_over(plan)):
            batch.taken.append(before)
        if before is not None and before.content == content:
            return before
        if before is None:
            port = self._write_set(self._new_index(), content, batch)
            batch.fresh[port.index] = self._entries.number(port.set)
        else:
            self._retire(before, garbage, with_index=False)
            port = self._write_set(before.index, content, batch)
            batch.services[self._entries.number(port.index)] = self._entries.number(port.set)
        return port

    def _write_set(self, index: int, content: Content, batch: _Batch) -> Port:
        entries, number, serving = self._entries, self._new_set(), 0
        if content.serving:
            serving = number if content.serving == content.backends else self._new_set()
        header = Header(index, content.size, content.affinity, serving, content.on_empty)
        slots = entries.slots(number, range(content.size))
        batch.backends.update(zip(slots, split(content.backends), strict=True))
        batch.members.update(dict.fromkeys(self._member_keys(number, serving, content), b"\1"))
        batch.sets[entries.number(number)] = entries.header(header)
        return Port(index, number, serving, content)

    def _member_keys(self, number: int, serving: int, content: Content) -> list[bytes]:
        keys: list[bytes] = []
        if content.needs_members:
            keys += self._entries.members(number, content.backends)
        if serving and serving != number:
            keys += self._entries.members(serving, content.serving)
        return keys

    def _retire(self, port: Port, garbage: Garbage, with_index: bool) -> None:
        entries = self._entries
        garbage.sets.append(entries.number(port.set))
        garbage.slots += entries.slots(port.set, range(port.content.size))
        garbage.members += self._member_keys(port.set, port.serving, port.content)
        if with_index:
            garbage.indices.append(port.index)

    def _wanted_frontends(
        self, ports: Mapping[PortName, Port], plan: Iterable[PortPlan]
    ) -> dict[bytes, bytes]:
        entries = self._entries
        wanted: dict[bytes, bytes] = {}
        for (_, port), each in zip(ports.items(), plan, strict=True):
            for frontend in each.frontends:
                own = frontend.address in self.own
                special = entries.of_node if own else entries.no_port
                wanted[entries.any_port(frontend.address)] = entries.number(special)
                if not own:
                    wanted[entries.frontend(frontend)] = entries.number(port.index)
        return wanted

    def _take_over(self, plan: PortPlan) -> Port | None:
        """What an earlier agent wrote for the same frontend: its index stays, its set if that is right."""
        if self._found is None or not plan.frontends:
            return None
        index = self._found.frontends.get(self._entries.frontend(plan.frontends[0]))
        return self._found.ports.pop(self._entries.read_number(index), None) if index else None

    def forget_unclaimed(self) -> None:
        """Once, when every Service has been planned: what an earlier agent left and nobody asked for goes."""
        if self._found is None:
            return
        garbage = Garbage()
        for port in self._found.ports.values():
            self._retire(port, garbage, with_index=True)
        garbage.sets += self._found.stray_sets
        garbage.slots += self._found.stray_slots
        garbage.members += self._found.stray_members
        self._leads.forget_found()
        self._garbage.add(garbage)
        self._found = None

    def take_garbage(self) -> Garbage:
        """What was taken out since the last call: for ``free``, after ``libc.await_readers``."""
        garbage, self._garbage = self._garbage, Garbage()
        garbage.deletions = self._leads.deletions
        return garbage

    def free(self, garbage: Garbage) -> None:
        """Deletes what no program can see any more. Raises ``KernelError``."""
        none = self._entries.number(0)
        self._leads.are_unseen(garbage.deletions)
        _update(self._maps["services"], {self._entries.number(i): none for i in garbage.indices})
        self._maps["sets"].discard_all(garbage.sets)
        self._maps["backends"].discard_all(garbage.slots)
        self._maps["members"].discard_all(garbage.members)
        self._free_indices += garbage.indices

    def set_cidrs(self, cidrs: Iterable[Network]) -> None:
        """Where Services' addresses come from: others in there are nobody's (S-16, S-29)."""
        table = self._maps["service_cidrs"]
        pack = self._contract.pack
        wanted = {pack("prefix", length=mapped_length(c), address=to_bytes(c.network_address)) for c in cidrs}
        there = set(table.keys(len(pack("prefix"))))
        for key in wanted - there:
            table[key] = b"\1"
        for key in there - wanted:
            table.discard(key)

    def serving(self, names: Iterable[PortName]) -> dict[int, frozenset[Backend]]:
        """By index in ``services``: who may keep old flows (S-65), of those ports where this is asked."""
        ports = [self._ports.get(name.service, {}).get(name) for name in names]
        read = self._entries.read_backends
        return {p.index: frozenset(read(p.content.serving)) for p in ports if p and p.content.serving}

    def _new_index(self) -> int:
        if self._free_indices:
            index = self._free_indices.pop()
            self._maps["service_hits"][self._entries.number(index)] = bytes(
                self._maps["service_hits"].value_size
            )
            return index
        self._next_index += 1
        return self._next_index - 1

    def _new_set(self) -> int:
        self._next_set += 1
        return self._next_set - 1


def _named(key: Key, plan: Iterable[PortPlan]) -> list[tuple[PortName, PortPlan]]:
    return [(PortName(key, p.port, p.protocol, p.family), p) for p in plan]


def _update(table: Map, entries: Mapping[bytes, bytes]) -> None:
    table.update_all(list(entries), list(entries.values()))
