"""Whose the ports of a node are. Pure bookkeeping: who came first has a port until it gives it up (N-10)."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from tulle.model.address import Address
from tulle.model.host_ports import HostPort

ANY = {4: ip_address("0.0.0.0"), 6: ip_address("::")}
"""All addresses of a family."""


class Entry(NamedTuple):
    """One way in: an address of the node, or all of a family, and the Pod's end that it leads to."""

    address: Address
    port: int
    protocol: str
    pod: Address
    pod_port: int

    @property
    def everywhere(self) -> bool:
        """Whether it is for all addresses of its family."""
        return self.address == ANY[self.address.version]


def entries(port: HostPort, pod: Iterable[Address]) -> tuple[Entry, ...]:
    """The ways in to a Pod with these addresses, in each family that it has.

    There is none for a ``hostIP`` of a family in which the Pod has no address.
    """
    wanted = ip_address(port.host_ip) if port.host_ip else None
    return tuple(
        Entry(wanted or ANY[a.version], port.host_port, port.protocol, a, port.container_port)
        for a in pod
        if wanted is None or wanted.version == a.version
    )


_Place = tuple[int, int, str]  # family, port, protocol


class Claims:
    """``owner`` is whatever tells two attachments apart.

    0.0.0.0 and a single IPv4 address collide on the same port and protocol, as :: does with an IPv6 address;
    two single addresses do not, nor do two families or protocols.
    """

    def __init__(self) -> None:
        self._holders: dict[_Place, dict[Address, tuple[str, str]]] = {}

    def holder(self, owner: tuple[str, str], wanted: Iterable[Entry]) -> tuple[str, str] | None:
        """Another one that has some of it already."""
        for entry in wanted:
            for address, other in self._holders.get(_place(entry), {}).items():
                if other != owner and (address in (entry.address, _any(entry)) or entry.everywhere):
                    return other
        return None

    def take(self, owner: tuple[str, str], wanted: Iterable[Entry]) -> None:
        """They are the owner's; nobody else may have any of them."""
        for entry in wanted:
            self._holders.setdefault(_place(entry), {})[entry.address] = owner

    def give_up(self, owner: tuple[str, str], held: Iterable[Entry]) -> None:
        """What the owner does not have is passed over."""
        for entry in held:
            holders = self._holders.get(_place(entry), {})
            if holders.get(entry.address) == owner:
                del holders[entry.address]
            if not holders:
                self._holders.pop(_place(entry), None)


def _place(entry: Entry) -> _Place:
    return entry.address.version, entry.port, entry.protocol


def _any(entry: Entry) -> Address:
    return ANY[entry.address.version]
