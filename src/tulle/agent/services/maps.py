"""The kernel's side of `tulle status` on Services: read from the pinned maps, without asking the agent."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from tulle.kernel.bpf_maps import Map
from tulle.kernel.netlink import Netlink
from tulle.kernel.rtnetlink import addresses
from tulle.model.address import Network, from_mapped, to_bytes
from tulle.pod_to_pod.pinned import Pinned
from tulle.pod_to_service.entries import Entries
from tulle.pod_to_service.found import indices_in, read_table
from tulle.pod_to_service.observed import KernelTable, observe
from tulle.pod_to_service.own import OwnAddresses


class Size(msgspec.Struct, frozen=True):
    """How many entries a map has, and how many fit in."""

    used: int
    most: int


@dataclass(frozen=True, slots=True)
class KernelSide:
    """``own``: addresses that this node itself has, 16 bytes each; ``own_addresses``: those that the programs
    know, and whether node ports are reached there. ``clients``: how many network namespaces, by kind.
    ``programs``: those at the sockets.
    """

    table: KernelTable
    own: frozenset[bytes]
    cidrs: frozenset[Network]
    clients: Mapping[str, int]
    sizes: Mapping[str, Size]
    programs: frozenset[str]
    own_addresses: Mapping[bytes, bool]


class ServiceMaps:
    """The maps of the Service table. Raises ``KernelError`` (ENOENT) where no agent has run."""

    def __init__(self, pinned: Pinned) -> None:
        self._pinned = pinned
        self._contract = pinned.contract
        self._entries = Entries(pinned.contract)
        structs = ("affinity", "backend", "client", "flow_state", "lead", "ring_entry")
        size = {name: pinned.contract.layout(name).size for name in structs}
        self._maps = {
            "frontends": pinned.open("frontends", size["lead"]),
            "services": pinned.open("services", 4),
            "sets": pinned.open("sets", self._entries.set_size),
            "backends": pinned.open("backends", size["backend"]),
            "members": pinned.open("members", 1),
            "rings": pinned.open("rings", size["ring_entry"]),
            "source_ranges": pinned.open("source_ranges", 1),
            "affinities": pinned.open("affinities", size["affinity"]),
            "clients": pinned.open("clients", size["client"]),
            "flows": pinned.open("flows", size["flow_state"]),
            "own_addresses": pinned.open("own_addresses", 4),
            "service_cidrs": pinned.open("service_cidrs", 1),
        }
        self._hits = pinned.open("service_hits", 8)

    def read(self) -> KernelSide:
        """As they stand now; a change that happens meanwhile may be seen by half."""
        found = read_table(self._maps, self._entries)
        hits = {index: self._hits_of(index) for index in indices_in(found, self._entries)}
        table = observe(found, self._entries, hits)
        clients = self._maps["clients"].items(8)
        used = {
            "frontends": found.sizes["frontends"],
            "services": len(table.ports),
            **found.sizes,
            "affinities": len(self._maps["affinities"].items(self._contract.layout("affinity_key").size)),
            "clients": len(clients),
        }
        flows = self._pinned.count_flows()
        used |= {} if flows is None else {"flows": flows}
        return KernelSide(
            table=table,
            own=_own_addresses(),
            cidrs=frozenset(self._cidrs(self._maps["service_cidrs"])),
            clients=self._kinds(clients.values()),
            sizes={name: Size(count, self._maps[name].most) for name, count in used.items()},
            programs=frozenset(self._pinned.socket_programs()),
            own_addresses=OwnAddresses(self._maps["own_addresses"], self._contract).read(),
        )

    def _hits_of(self, index: int) -> int:
        return int.from_bytes(self._hits.get(self._entries.number(index)) or b"", sys.byteorder)

    def _cidrs(self, table: Map) -> list[Network]:
        layout = self._contract.layout("prefix")
        found = [layout.unpack(key) for key in table.keys(layout.size)]
        return [from_mapped(address, length) for length, address in found]

    def _kinds(self, clients: Iterable[bytes]) -> dict[str, int]:
        """By ``enum client_kind``, also those that there are none of."""
        kinds = self._contract.enums["client_kind"]
        counted = Counter(self._contract.unpack("client", raw).kind for raw in clients)
        return {kind.name.removeprefix("CLIENT_").lower(): counted[kind] for kind in kinds}


def _own_addresses() -> frozenset[bytes]:
    with Netlink() as netlink:
        return frozenset(to_bytes(interface.ip) for _, interface in addresses(netlink))
