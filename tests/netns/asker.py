"""A host on the nodes' own subnet, which asks for addresses and writes down who answers."""

from __future__ import annotations

import itertools
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from nodes import Place

from tulle.external_to_service.announce.frames import solicited_node
from tulle.kernel import netns
from tulle.model.address import Address

_ETH_P_ALL = 3
_SO_TIMESTAMPNS = 35
_MAC = bytes.fromhex("0a0000000a5c")
_PAUSE = 0.02  # seconds between two questions for an address
_SHORTEST_TURN = 0.1  # seconds: some questions; no test takes a node away sooner
OWN = {4: IPv4Address("172.30.1.100"), 6: IPv6Address("fd00:172:30:1::100")}


@dataclass(frozen=True)
class Heard:
    """A frame that said where ``address`` is. ``asked``: it was an answer, to us; else it was said to all."""

    when: float
    address: Address
    mac: str
    asked: bool
    kind: str


class Asker(Place):
    """Asks for each of ``addresses`` fifty times a second, from ``start`` to ``close``."""

    def __init__(self, path: Path, underlay: Path, bridge: str, addresses: list[Address]) -> None:
        super().__init__(path)
        self.addresses = addresses
        self.heard: list[Heard] = []
        self._stop, self._ended = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="asker")
        netns.create(path)
        with netns.entered(underlay):
            link = ["ip", "link", "add", "asker", "type", "veth", "peer", "name", "eth0"]
            place = Place(underlay)
            place.run(*link, "address", _MAC.hex(":"), "netns", str(path))
            place.run("ip", "link", "set", "asker", "master", bridge, "up")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "address", "add", f"{OWN[4]}/24", "dev", "eth0")
        self.run("ip", "address", "add", f"{OWN[6]}/64", "dev", "eth0", "nodad")
        with netns.entered(path):
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_ALL))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.bind(("eth0", 0))

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        super().close()
        self._stop.close()
        if self._thread.is_alive():
            self._thread.join()
        self._ended.close()
        self._socket.close()
        netns.delete(self.path)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._ended, select.POLLIN | select.POLLHUP)
        following = 0.0
        while True:
            now = time.monotonic()
            if now >= following:
                following = now + _PAUSE
                for address in self.addresses:
                    self._socket.send(question(address))
            for fd, _ in poll.poll(max(0, following - now) * 1000):
                if fd == self._ended.fileno():
                    return
                frame, ancillary, _, _ = self._socket.recvmsg(2048, 64)
                if heard := read(frame, came(ancillary)):
                    self.heard.append(heard)

    def answerers(self, address: Address, since: float) -> list[str]:
        """The MACs of who answered since then, in the order of the first answer of each."""
        macs = [h.mac for h in list(self.heard) if h.asked and h.address == address and h.when >= since]
        return list(dict.fromkeys(macs))

    def first(self, address: Address, since: float, other_than: str = "") -> Heard | None:
        found = (
            h
            for h in list(self.heard)
            if h.asked and h.address == address and h.when >= since and h.mac != other_than
        )
        return next(found, None)

    def assert_one_at_a_time(self) -> None:
        """Who answers does so for a while, and no other amid that: two at a time would take short turns."""
        for address in self.addresses:
            answers = [h for h in list(self.heard) if h.asked and h.address == address]
            turns = [list(turn) for _, turn in itertools.groupby(answers, lambda h: h.mac)]
            for turn in turns[:-1]:
                lasted = turn[-1].when - turn[0].when
                assert lasted > _SHORTEST_TURN, f"{address}: {turn[0].mac} answered for {lasted:.3f} s only"


def question(address: Address) -> bytes:
    """An ARP request or a neighbour solicitation, as a frame."""
    if isinstance(address, IPv4Address):
        ends = _MAC + OWN[4].packed + bytes(6) + address.packed
        return b"\xff" * 6 + _MAC + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1) + ends
    group = solicited_node(address)
    body = struct.pack("!BBHI", 135, 0, 0, 0) + address.packed + b"\x01\x01" + _MAC
    ends = OWN[6].packed + group.packed
    total = sum(struct.unpack("!36H", ends + struct.pack("!II", len(body), 58) + body))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    body = body[:2] + struct.pack("!H", total) + body[4:]
    ip = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + ends
    return b"\x33\x33" + group.packed[-4:] + _MAC + struct.pack("!H", 0x86DD) + ip + body


def came(ancillary: list[tuple[int, int, bytes]]) -> float:
    """When the kernel had the frame, on the monotonic clock, however late we read it."""
    [(_, _, stamp)] = ancillary
    seconds, nanoseconds = struct.unpack("qq", stamp)
    return time.monotonic() - (time.time() - seconds - nanoseconds / 1e9)


def read(frame: bytes, now: float) -> Heard | None:
    """What a frame says of where an address is. Our own say nothing."""
    ethertype, source = frame[12:14], frame[6:12].hex(":")
    if frame[6:12] == _MAC:
        return None
    if ethertype == b"\x08\x06":
        operation, sender, target = frame[20:22], IPv4Address(frame[28:32]), IPv4Address(frame[38:42])
        if operation == b"\0\2" and target == OWN[4]:
            assert frame[:6] == _MAC and frame[22:28] == frame[6:12]
            return Heard(now, sender, source, True, "ARP reply")
        if sender == target:
            kind = "gratuitous ARP request" if operation == b"\0\1" else "gratuitous ARP reply"
            return Heard(now, sender, source, False, kind)
    if ethertype == b"\x86\xdd" and frame[20] == 58 and frame[54] == 136:
        asked = bool(frame[58] & 0x40)
        assert frame[80:86] == frame[6:12] and frame[78:80] == b"\x02\x01"
        return Heard(now, IPv6Address(frame[62:78]), source, asked, "advertisement")
    return None
