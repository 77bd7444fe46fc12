"""Which address a Pod gets: one from each of the node's Pod CIDRs. Pure; ``store`` makes it durable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tulle.errors import AddressError
from tulle.model.address import Address, Network


class _Pool:
    """The addresses of one CIDR, given out in a circle: one that was freed comes back as late as can be.

    That matters because others may still speak to the old Pod behind it (N-19).
    """

    def __init__(self, cidr: Network) -> None:
        self.cidr = cidr
        self.taken: set[Address] = set()
        # Not the network's own address, which is IPv6's anycast of all routers, nor IPv4's broadcast.
        self._first = 1
        self._size = cidr.num_addresses - (2 if cidr.version == 4 else 1)
        if self._size < 1:
            raise AddressError(f"Pod CIDR {cidr} holds no address for a Pod; /30 or /126 is the smallest")
        self._next = 0

    def allocate(self) -> Address:
        if len(self.taken) >= self._size:
            raise AddressError(f"Pod CIDR {self.cidr} is exhausted: all {self._size} addresses are in use")
        while True:
            address = self.cidr[self._first + self._next]
            self._next = (self._next + 1) % self._size
            if address not in self.taken:
                self.taken.add(address)
                return address

    def go_on_after(self, address: Address) -> None:
        """The next address is looked for behind this one."""
        self._next = (int(address) - int(self.cidr[self._first]) + 1) % self._size


class Ipam:
    """Addresses of a node. ``cidrs`` in the order of ``spec.podCIDRs``: the first is the primary family.

    Raises ``AddressError`` when two CIDRs are of one family or one is too small.
    """

    def __init__(self, cidrs: Sequence[Network]) -> None:
        families = [cidr.version for cidr in cidrs]
        if not cidrs or len(set(families)) != len(families):
            given = ", ".join(map(str, cidrs)) or "nothing"
            raise AddressError(f"spec.podCIDRs holds {given}; it needs one CIDR, or one of each family")
        self.cidrs = tuple(cidrs)
        self._pools = [_Pool(cidr) for cidr in cidrs]

    def allocate(self) -> tuple[Address, ...]:
        """One free address of each family. Raises ``AddressError``; then none is taken."""
        given: list[Address] = []
        try:
            for pool in self._pools:
                given.append(pool.allocate())
        except AddressError:
            self.free(given)
            raise
        return tuple(given)

    def take(self, addresses: Iterable[Address]) -> None:
        """Marks addresses that are in use already; those of other CIDRs are nobody's to give."""
        for address in addresses:
            for pool in self._pools:
                if address in pool.cidr:
                    pool.taken.add(address)
                    pool.go_on_after(address)

    def free(self, addresses: Iterable[Address]) -> None:
        """The addresses may be given again; those that were not taken do not matter."""
        for address in addresses:
            for pool in self._pools:
                pool.taken.discard(address)

    @property
    def available(self) -> int:
        """How many more Pods can get an address of each family."""
        return min(pool._size - len(pool.taken) for pool in self._pools)
