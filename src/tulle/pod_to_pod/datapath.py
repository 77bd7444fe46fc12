"""The eBPF side of a node: programs, links and maps, pinned so that they outlive the agent."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tulle.kernel import bpf_objects, tc
from tulle.kernel.bpf_maps import RingBuffer
from tulle.kernel.netlink import Request
from tulle.model.address import Address, mapped_length, to_bytes
from tulle.pod_to_pod.flow_count import flow_count
from tulle.pod_to_pod.pinned import Count, counts
from tulle.pod_to_pod.programs import (
    DEVICE_PROGRAMS,
    OBJECTS,
    POD_PROGRAMS,
    SOCKET_PROGRAMS,
    SOCKETS,
    DatapathSettings,
    constants,
    flow_table_size,
    folder_of,
    open_object,
)
from tulle.pod_to_pod.topology import Remote, Transport, Way


class Datapath:
    """The programs and maps of one node.

    ``root`` is a folder of its own in a bpffs: ``links/`` below it, and ``maps/`` in a folder for each
    contract. Maps that are there are used as they are; attaching swaps a program that is there, also
    one with another contract, without a packet lost.
    Raises ``KernelError``; packets then go on as before.
    """

    def __init__(self, root: Path, settings: DatapathSettings) -> None:
        objects = [open_object(name) for name in OBJECTS]
        self.contract = objects[0].contract
        self._root = folder_of(root, self.contract)
        maps, self._links = self._root / "maps", root / "links"
        for folder in (maps, self._links):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sizes = {"flows": flow_table_size(maps / "flows", settings.flow_table_size)}
        for each in objects:
            each.load(maps, constants(self.contract, settings), sizes)
        self._objects = objects
        self._programs = {name: fd for each in objects for name, fd in each.programs.items()}
        self.maps = objects[0].maps
        self._flow_count = flow_count(maps)

    def close(self) -> None:
        """Lets go of programs and maps; what is pinned and attached stays."""
        for each in (*self._objects, self._flow_count):
            if each:
                each.close()

    def pod_programs(self, ifindex: int) -> list[Request]:
        """The requests that attach the programs of a Pod to the host's side of its veth."""
        return [
            request
            for name, parent in POD_PROGRAMS
            for request in tc.attach(ifindex, parent, self._programs[name], name)
        ]

    def attach(self, role: str, ifindex: int, device: str) -> None:
        """Attaches the programs of a role (a key of ``DEVICE_PROGRAMS``) to a device."""
        for program, kind in DEVICE_PROGRAMS[role]:
            bpf_objects.attach(self._programs[program], ifindex, kind, self._pin(device, program))

    def detach(self, role: str, device: str) -> None:
        """Detaches them; nothing happens when they are not attached."""
        for program, _ in DEVICE_PROGRAMS[role]:
            self._pin(device, program).unlink(missing_ok=True)

    def attach_sockets(self, cgroup: Path) -> None:
        """Services at the socket, for all processes in ``cgroup`` and below."""
        folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for program, kind in SOCKET_PROGRAMS.items():
                bpf_objects.attach(self._programs[program], folder, kind, self._pin(SOCKETS, program))
        finally:
            os.close(folder)

    def remove_other_versions(self) -> None:
        """Takes away what an agent with another contract pinned, once this one's programs are in place."""
        for folder in self._root.parent.glob("v*"):
            if folder != self._root:
                shutil.rmtree(folder)

    def attached(self, role: str) -> set[str]:
        """The devices that have a program of this role."""
        program = DEVICE_PROGRAMS[role][0][0]
        pins = (path.name.split(":") for path in self._links.iterdir())
        return {device.replace("@", ".") for device, pinned in pins if pinned == program}

    def _pin(self, device: str, program: str) -> Path:
        """A link's place. Dots may be in a device's name, but not in a name in a bpffs."""
        return self._links / f"{device.replace('.', '@')}:{program}"

    def set_endpoint(self, address: Address, ifindex: int, mac: bytes) -> None:
        """Pod ``address`` is behind link ``ifindex`` from now on."""
        value = self.contract.pack("endpoint", ifindex=ifindex, mac=mac)
        self.maps["endpoints"][to_bytes(address)] = value
        if _has_suffix(address):
            self.maps["suffixes"][_suffix(address)] = to_bytes(address)

    def endpoint_link(self, address: Address) -> int | None:
        """The index of the link that a Pod's address is behind."""
        found = self.maps["endpoints"].get(to_bytes(address))
        return int(self.contract.unpack("endpoint", found).ifindex) if found else None

    def remove_endpoint(self, address: Address) -> None:
        self.maps["endpoints"].discard(to_bytes(address))
        if self.maps["suffixes"].get(_suffix(address)) == to_bytes(address):
            self.maps["suffixes"].discard(_suffix(address))

    def keep_endpoints(self, addresses: Iterable[Address]) -> None:
        """Removes the endpoints of all other addresses."""
        known = list(addresses)
        kept = set(map(to_bytes, known))
        for key in list(self.maps["endpoints"].keys(16)):
            if key not in kept:
                self.maps["endpoints"].discard(key)
        suffixes = self.maps["suffixes"]
        for key in list(suffixes.keys(4)):
            if suffixes.get(key) not in kept:
                suffixes.discard(key)
        for address in filter(_has_suffix, known):
            suffixes[_suffix(address)] = to_bytes(address)

    def set_self(self, addresses: Iterable[Address]) -> None:
        """The addresses by which this node itself is known, one of a family."""
        for index, version in enumerate((4, 6)):
            address = next((to_bytes(a) for a in addresses if a.version == version), bytes(16))
            self.maps["self"][index.to_bytes(4, sys.byteorder)] = address

    def set_client(self, cookie: int, kind: str, addresses: Iterable[Address]) -> None:
        """Whose sockets the network namespace with this cookie holds.

        ``kind``: NODE, POD, or POD_PACKETS for a Pod whose sockets are left alone.
        """
        by_family = {f"v{a.version}": to_bytes(a) for a in addresses}
        number = self.contract.enums["client_kind"][f"CLIENT_{kind}"]
        self.maps["clients"][_cookie(cookie)] = self.contract.pack("client", kind=number, **by_family)

    def remove_client(self, cookie: int) -> None:
        self.maps["clients"].discard(_cookie(cookie))

    def keep_clients(self, cookies: Iterable[int]) -> None:
        """Removes all other network namespaces."""
        kept = set(map(_cookie, cookies))
        for key in list(self.maps["clients"].keys(8)):
            if key not in kept:
                self.maps["clients"].discard(key)

    def sync_remotes(self, remotes: Iterable[Remote], overlay_index: int, remove: bool) -> int:
        """Writes what differs, new before old goes; returns how many entries changed.

        ``overlay_index`` is 0 where there is no overlay device. ``remove`` is false until the whole cluster
        has been listed: what is not known yet stays.
        """
        table = self.maps["remotes"]
        wanted = dict(self._remote_entry(remote, overlay_index) for remote in remotes)
        there = {key: table.get(key) for key in list(table.keys(20))}
        changed = {key: value for key, value in wanted.items() if there.get(key) != value}
        gone = [key for key in there if key not in wanted] if remove else []
        for key, value in changed.items():
            table[key] = value
        for key in gone:
            table.discard(key)
        return len(changed) + len(gone)

    def _remote_entry(self, remote: Remote, overlay_index: int) -> tuple[bytes, bytes]:
        transports = self.contract.enums["transport"]
        overlay = remote.transport is Transport.OVERLAY
        key = self.contract.pack(
            "prefix",
            length=mapped_length(remote.prefix),
            address=to_bytes(remote.prefix.network_address),
        )
        value = self.contract.pack(
            "remote",
            way=self._way(remote.way),
            tunnel=self._way(remote.tunnel),
            ifindex=overlay_index if overlay else remote.way.uplink.index,
            overlay=overlay_index,
            host=remote.prefix.num_addresses == 1,
            transport=transports[f"TRANSPORT_{remote.transport.name}"],
        )
        return key, value

    def _way(self, way: Way) -> bytes:
        return self.contract.pack(
            "way",
            node=to_bytes(way.node),
            source=to_bytes(way.source),
            uplink=way.uplink.index,
            neighbour=way.neighbour,
        )

    def mark(self, name: str) -> int:
        """What a packet is marked with: SHORT_CUT or MASQUERADE."""
        return int(self.contract.enums["mark"][f"MARK_{name}"])

    def counters(self) -> Iterator[Count]:
        """Whatever is not zero, summed over the CPUs."""
        return counts(self.maps["counters"], self.contract)

    def count_flows(self) -> int | None:
        """How many flows are remembered; None where the kernel cannot tell."""
        return self._flow_count.read() if self._flow_count else None

    def drops(self, consumer: Callable[[Any], None]) -> RingBuffer:
        """Hands each dropped packet to ``consumer`` as a ``struct drop_event``."""
        return RingBuffer(
            self.maps["drops"].fd, lambda data: consumer(self.contract.unpack("drop_event", data))
        )


def _has_suffix(address: Address) -> bool:
    """Whether other nodes hand packets over for it by its last 32 bits: of IPv4, that is all of it."""
    return address.version == 6 and not address.is_link_local


def _suffix(address: Address) -> bytes:
    return address.packed[-4:]


def _cookie(number: int) -> bytes:
    return number.to_bytes(8, sys.byteorder)
