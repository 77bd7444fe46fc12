"""The addresses that a node has itself, and at which of them node ports are reached (S-21, S-22)."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tulle.kernel.bpf_maps import Map
from tulle.kernel.btf import Contract
from tulle.model.address import Network, from_bytes
from tulle.pod_to_service.addresses import LOOPBACK


@dataclass(frozen=True, slots=True)
class NodePortAddresses:
    """The setting. ``primary``: the addresses by which the Node object names the node; ``networks``: those of
    its addresses that are in there.
    """

    primary: bool = True
    networks: tuple[Network, ...] = ()

    def selects(self, address: bytes, primary: Collection[bytes]) -> bool:
        """Never loopback."""
        found = from_bytes(address)
        if found.is_loopback:
            return False
        return (self.primary and address in primary) or any(found in network for network in self.networks)


def own_addresses(
    there: Collection[bytes],
    primary: Collection[bytes],
    node_ports: NodePortAddresses,
    cidrs: Collection[Network],
) -> dict[bytes, bool]:
    """By address, whether node ports are reached there. Pure.

    ``there``: the addresses that the kernel has. What is good on one link only leads to no one machine; an
    address out of ``cidrs``, which are the Services', is for that one Service, and has no other ports.
    """
    wanted = dict.fromkeys(LOOPBACK.values(), False)
    for address in there:
        found = from_bytes(address)
        if not found.is_link_local and not any(found in cidr for cidr in cidrs):
            wanted[address] = node_ports.selects(address, primary)
    return wanted


class OwnAddresses:
    """The map ``own_addresses``. Raises ``KernelError``."""

    def __init__(self, table: Map, contract: Contract) -> None:
        self._table = table
        self._node_ports = int(contract.enums["own_flags"]["OWN_NODE_PORTS"])

    def read(self) -> dict[bytes, bool]:
        """By address, whether node ports are reached there."""
        found = self._table.items(16)
        return {
            address: bool(int.from_bytes(flags, sys.byteorder) & self._node_ports)
            for address, flags in found.items()
        }

    def sync(self, wanted: Mapping[bytes, bool]) -> None:
        """Writes what differs."""
        there = self.read()
        for address, node_ports in wanted.items():
            if there.get(address) is not node_ports:
                self._table[address] = (self._node_ports * node_ports).to_bytes(4, sys.byteorder)
        self._table.discard_all([address for address in there if address not in wanted])
