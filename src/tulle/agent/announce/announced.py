"""The kernel's side of announcing: who asks for these addresses on the uplinks is answered, until a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address

from tulle.errors import KernelError
from tulle.external_to_service.announce.frames import gratuitous, solicited_node
from tulle.external_to_service.announce.vips import Link, Vip
from tulle.kernel.bpf_maps import Map
from tulle.kernel.btf import Contract
from tulle.kernel.packet import LinkSocket, Membership
from tulle.model.address import Address, from_bytes, to_bytes
from tulle.pod_to_pod.topology import Uplink

log = logging.getLogger(__name__)

Place = tuple[Address, int]
"""An address, and the index of an uplink."""


def boot_time() -> float:
    """Seconds since boot, by the clock that the programs read."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Announced:
    """The map ``announcements``, and what receiving and telling needs besides.

    What an earlier agent wrote stays until it runs out: it is right until then.
    """

    def __init__(self, table: Map, contract: Contract) -> None:
        self._table = table
        self._contract = contract
        self._sockets: dict[Uplink, LinkSocket] = {}
        self._places: dict[Place, bytes] = {}
        self._memberships: dict[Place, Membership] = {}
        self._failing = False
        size = contract.layout("announcement_key").size
        self._inherited = {key: self._address_in(key) for key in table.items(size)}

    def _address_in(self, key: bytes) -> Address:
        return from_bytes(bytes(self._contract.unpack("announcement_key", key).address))

    def close(self) -> None:
        """Lets go of sockets; the map stays as it is."""
        for opened in self._sockets.values():
            opened.close()
        for joined in self._memberships.values():
            joined.close()
        self._sockets.clear()
        self._memberships.clear()

    def use(self, uplinks: Iterable[Uplink]) -> list[Link]:
        """Announces on these from now on; those that lead somewhere now."""
        wanted = dict.fromkeys(uplinks)
        for gone in [uplink for uplink in self._sockets if uplink not in wanted]:
            self._sockets.pop(gone).close()
        for uplink in wanted:
            if uplink not in self._sockets:
                try:
                    self._sockets[uplink] = LinkSocket(uplink.name)
                except KernelError as error:
                    log.warning("nothing is announced on %s: %s", uplink.name, error)
        return [Link(u.index, u.addresses) for u, opened in self._sockets.items() if opened.is_running]

    def apply(self, held: Mapping[Address, float], vips: Mapping[Address, Vip]) -> list[Address]:
        """Has exactly these answered, each until its time; those that were not before."""
        macs = {uplink.index: opened.mac for uplink, opened in self._sockets.items()}
        wanted = {
            (address, index): (until, macs[index])
            for address, until in held.items()
            if address in vips
            for index in vips[address].links
            if index in macs
        }
        gone = {place: key for place, key in self._places.items() if place not in wanted}
        new = [place for place in wanted if place not in self._places]
        try:
            self._table.discard_all(list(gone.values()))
            self._join(wanted)
            keys = {place: self._places.get(place) or self._key(*place) for place in wanted}
            values = [
                self._contract.pack("announcement", until=int(u * 1e9), mac=m) for u, m in wanted.values()
            ]
            self._table.update_all(list(keys.values()), values)
        except KernelError as error:
            self._complain(error)
            return []
        self._places, self._failing = keys, False
        return list(dict.fromkeys(address for address, _ in new))

    def _complain(self, error: KernelError) -> None:
        if not self._failing:
            log.error("LoadBalancer IPs are not announced as they should be: %s", error)
        self._failing = True

    def _join(self, wanted: Iterable[Place]) -> None:
        """So that the device hears who asks: neighbour discovery asks in a group."""
        asked = {place: place[0] for place in wanted if isinstance(place[0], IPv6Address)}
        for place in [place for place in self._memberships if place not in asked]:
            self._memberships.pop(place).close()
        for place, address in asked.items():
            if place not in self._memberships:
                self._memberships[place] = Membership(solicited_node(address), place[1])

    def _key(self, address: Address, index: int) -> bytes:
        return self._contract.pack("announcement_key", address=to_bytes(address), ifindex=index)

    def withdraw(self, address: Address) -> None:
        """It is no longer answered for, also not by what an earlier agent wrote. Raises ``KernelError``."""
        gone = [key for key, each in self._inherited.items() if each == address]
        gone += [self._places.pop(place) for place in list(self._places) if place[0] == address]
        self._table.discard_all(gone)

    def clear(self) -> None:
        """Nothing is answered any more. Raises ``KernelError``."""
        self._table.discard_all(list(dict.fromkeys([*self._inherited, *self._places.values()])))
        self._places.clear()
        self._join(())

    def forget_expired(self) -> None:
        """Takes out what an earlier agent wrote, and has run out. Raises ``KernelError``."""
        renewed = set(self._places.values())
        self._table.discard_all([key for key in self._inherited if key not in renewed])
        self._inherited.clear()

    def tell(self, addresses: Iterable[Address]) -> None:
        """Says on the uplinks that these addresses are here."""
        chosen = set(addresses)
        sockets = {uplink.index: opened for uplink, opened in self._sockets.items()}
        for address, index in self._places:
            if address in chosen and index in sockets:
                self._send(sockets[index], address)

    def _send(self, opened: LinkSocket, address: Address) -> None:
        try:
            for frame in gratuitous(address, opened.mac):
                opened.send(frame)
        except KernelError as error:
            log.warning("%s: not told that it is here: %s", address, error)
