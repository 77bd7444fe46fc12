"""The entries of the kernel's Service table (``bpf/maps.h``) as bytes. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from socket import htonl, htons, ntohl, ntohs
from typing import NamedTuple

from tulle.kernel.btf import Contract
from tulle.model.address import Network, from_mapped, mapped_length, to_bytes
from tulle.pod_to_service.plan import Backend, Choice, Frontend, OnEmpty, Scope
from tulle.pod_to_service.regions import Region

BACKEND_SIZE = 20
RING_SLOT_SIZE = 2
GUARD_SIZE = 4
"""All in bytes."""
LAST_SET = 0
"""Where ``services``, in the place of an index that no frontend leads to, has the last number of a set."""


class Content(NamedTuple):
    """What is in a set. ``backends`` and ``serving`` are packed, one behind the other.

    ``ringed``: whether it has a ring, which leads a flow to the same backend on every node.
    """

    backends: bytes
    serving: bytes
    affinity: int
    on_empty: int
    ringed: bool = False

    @property
    def size(self) -> int:
        """How many backends."""
        return len(self.backends) // BACKEND_SIZE

    @property
    def needs_members(self) -> bool:
        """Whether somebody asks which backends are in the set itself."""
        return bool(self.affinity) or (bool(self.serving) and self.serving == self.backends)


class Header(NamedTuple):
    """``struct backend_set``."""

    service: int
    backends: int
    affinity: int
    serving: int
    on_empty: int
    ring: int = 0
    ring_size: int = 0


class LeadsTo(NamedTuple):
    """``struct lead``: indices into ``services``, or an ``enum service_index``."""

    inside: int
    outside: int
    guard: int = 0


class Entries:
    """Keys and values, laid out as the contract says."""

    def __init__(self, contract: Contract) -> None:
        self._backend = contract.layout("backend")
        self._frontend = contract.layout("frontend")
        self._lead = contract.layout("lead")
        self._slot = contract.layout("slot")
        self._range = contract.layout("source_range")
        self._ring_entry = contract.layout("ring_entry").size
        self._set = contract.layout("backend_set")
        self._member = contract.layout("member")
        self._on_empty = contract.enums["on_empty"]
        scopes = contract.enums["frontend_scope"]
        self._scopes = {scope: int(scopes[f"SCOPE_{scope.name}"]) for scope in Scope}
        self._scope_of = {number: scope for scope, number in self._scopes.items()}
        special = contract.enums["service_index"]
        self.no_port: int = special["SERVICE_NO_PORT"]
        self.of_node: int = special["SERVICE_OF_NODE"]
        self.first: int = special["SERVICE_FIRST"]
        self.frontend_size, self.slot_size = self._frontend.size, self._slot.size
        self.member_size, self.set_size = self._member.size, self._set.size
        self.range_size = self._range.size
        if self._backend.size != BACKEND_SIZE:
            raise ValueError("struct backend has another size than this module expects")

    def number(self, value: int) -> bytes:
        """A ``__u32``: an index, or a set's number."""
        return value.to_bytes(4, sys.byteorder)

    def read_number(self, raw: bytes) -> int:
        return int.from_bytes(raw, sys.byteorder)

    def frontend(self, frontend: Frontend) -> bytes:
        address, port, protocol, scope = frontend
        return self._frontend.pack(address, htons(port), protocol, self._scopes[scope])

    def read_frontend(self, raw: bytes) -> Frontend:
        address, port, protocol, scope = self._frontend.unpack(raw)
        return Frontend(address, ntohs(port), protocol, self._scope_of[scope])

    def any_port(self, address: bytes) -> bytes:
        """The frontend of all ports that a Service's address does not have."""
        return self._frontend.pack(address, 0, 0, 0)

    def lead(self, leads_to: LeadsTo) -> bytes:
        return self._lead.pack(*leads_to)

    def read_lead(self, raw: bytes) -> LeadsTo:
        return LeadsTo(*self._lead.unpack(raw))

    def content(self, choice: Choice, affinity: int, ringed: bool) -> Content:
        backends = self._pack(choice.backends)
        serving = backends if choice.serving is choice.backends else self._pack(choice.serving)
        name = "ON_EMPTY_DROP" if choice.on_empty is OnEmpty.DROP else "ON_EMPTY_REFUSE"
        return Content(backends, serving, affinity, int(self._on_empty[name]), ringed)

    def read_on_empty(self, value: int) -> OnEmpty:
        return OnEmpty.DROP if value == self._on_empty["ON_EMPTY_DROP"] else OnEmpty.REJECT

    def _pack(self, backends: Iterable[Backend]) -> bytes:
        pack = self._backend.pack
        return b"".join([pack(address, htons(port), 0) for address, port in backends])

    def read_backends(self, packed: bytes) -> list[Backend]:
        return [Backend(address, ntohs(port)) for address, port, _ in self._backend.iter_unpack(packed)]

    def header(self, header: Header) -> bytes:
        return self._set.pack(*header)

    def read_header(self, raw: bytes) -> Header:
        return Header(*self._set.unpack(raw))

    def ring_region(self, header: Header) -> Region | None:
        """Where in ``rings`` the ring of a set is."""
        if not header.ring_size:
            return None
        return Region(header.ring, -(-header.ring_size * RING_SLOT_SIZE // self._ring_entry))

    def range(self, guard: int, network: Network) -> bytes:
        """The key that lets a network in."""
        length = 8 * GUARD_SIZE + mapped_length(network)
        return self._range.pack(length, htonl(guard), to_bytes(network.network_address))

    def read_range(self, raw: bytes) -> tuple[int, Network]:
        """(guard, network)."""
        length, guard, address = self._range.unpack(raw)
        return ntohl(guard), from_mapped(address, length - 8 * GUARD_SIZE)

    def slots(self, number: int, indices: Iterable[int]) -> list[bytes]:
        """The keys of a set's backends."""
        pack = self._slot.pack
        return [pack(number, index) for index in indices]

    def read_slot(self, raw: bytes) -> Sequence[int]:
        """(set, index)."""
        return self._slot.unpack(raw)

    def members(self, number: int, packed: bytes) -> list[bytes]:
        """The keys that say: these backends are in the set."""
        return [self._member.pack(number, each) for each in split(packed)]

    def read_member(self, raw: bytes) -> tuple[int, bytes]:
        """(set, packed backend)."""
        number, backend = self._member.unpack(raw)
        return number, backend


def split(packed: bytes) -> list[bytes]:
    """Backends that stand one behind the other."""
    return [packed[i : i + BACKEND_SIZE] for i in range(0, len(packed), BACKEND_SIZE)]
