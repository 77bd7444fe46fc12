"""Services for the programs: planned here, written by the real table, and packets between their ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from cluster import (
    A_LINK,
    A_MAC,
    B_LINK,
    B_MAC,
    GATEWAY_MAC,
    OVERLAY_NODE,
    OVERLAY_SOURCE_MAC,
    ROUTER_MAC,
    UPLINK,
    V4,
    VNI,
    Family,
)
from packets import ethernet, in_vxlan, ip, out_of_vxlan, summed
from programs import Outcome, Programs
from tests.plans import plan_at

from tulle.kernel import libc
from tulle.model.address import Address, to_bytes
from tulle.pod_to_service.plan import UDP, Backend, Frontend, OnEmpty, PortPlan
from tulle.pod_to_service.table import Table

KEY = ("default", "web")
VIPS = {"v4": ip_address("10.96.0.7"), "v6": ip_address("fd00:10:96::7")}
OTHER_VIPS = {"v4": ip_address("10.96.0.8"), "v6": ip_address("fd00:10:96::8")}
UNALLOCATED = {"v4": ip_address("10.96.9.9"), "v6": ip_address("fd00:10:96::999")}
CIDRS = (ip_network("10.96.0.0/16"), ip_network("fd00:10:96::/112"))
CLIENT_PORT, PORT, BACKEND_PORT = 40000, 80, 8080
NODE_MAC = bytes.fromhex("0a00000000fe")


@dataclass(frozen=True)
class Ends:
    """Who speaks to whom. Ports are in host order."""

    source: Address
    source_port: int
    destination: Address
    destination_port: int

    @property
    def back(self) -> Ends:
        return Ends(self.destination, self.destination_port, self.source, self.source_port)

    def packet(self, protocol: int, rest: bytes, hop_limit: int = 64) -> bytes:
        """``rest`` is what follows the ports; the checksum is filled in."""
        return ip(self.source, self.destination, protocol, self.body(protocol, rest), hop_limit)

    def body(self, protocol: int, rest: bytes) -> bytes:
        """The transport header and what follows it."""
        numbers = self.source_port.to_bytes(2, "big") + self.destination_port.to_bytes(2, "big")
        return summed(self.source, self.destination, protocol, numbers + rest)


def backends(*ends: Address | tuple[Address, int]) -> tuple[Backend, ...]:
    """At port 8080, unless another is given."""
    pairs = [end if isinstance(end, tuple) else (end, BACKEND_PORT) for end in ends]
    return tuple(sorted(Backend(to_bytes(address), port) for address, port in pairs))


@dataclass
class Scene:
    """Pod ``a`` is the client; the Service is ``default/web`` with port 80."""

    programs: Programs
    family: Family
    table: Table

    @property
    def vip(self) -> Address:
        return VIPS[self.family.name]

    @property
    def asked(self) -> Ends:
        """From the client to the Service."""
        return Ends(self.family.a, CLIENT_PORT, self.vip, PORT)

    def given(self, backend: Address, port: int = BACKEND_PORT) -> Ends:
        """From the client to a backend; the Service speaks to a client that is its own backend."""
        source = self.vip if backend == self.family.a else self.family.a
        return Ends(source, CLIENT_PORT, backend, port)

    def plan(
        self,
        protocol: int,
        chosen: Sequence[Backend],
        serving: Sequence[Backend] | None = None,
        affinity: int = 0,
        on_empty: OnEmpty = OnEmpty.REJECT,
        vip: Address | None = None,
    ) -> PortPlan:
        if serving is None:
            serving = chosen if protocol == UDP else ()
        return plan_at(
            Frontend(to_bytes(vip or self.vip), PORT, protocol),
            service=KEY,
            port="web",
            backends=chosen,
            serving=serving,
            affinity=affinity,
            on_empty=on_empty,
        )

    def apply(self, *plans: PortPlan, key: tuple[str, str] = KEY) -> None:
        """From now on the Service has these ports, and what was taken out is freed."""
        self.table.apply({key: tuple(replace(plan, service=key) for plan in plans)})
        garbage = self.table.take_garbage()
        libc.await_readers()
        self.table.free(garbage)

    def serve(self, protocol: int, *ends: Address | tuple[Address, int]) -> None:
        self.apply(self.plan(protocol, backends(*ends)))

    def send(self, packet: bytes) -> Outcome:
        """By the client."""
        return self.programs.run("from_pod", ethernet(GATEWAY_MAC, A_MAC, packet), A_LINK)

    def answer(self, sender: Address, packet: bytes) -> Outcome:
        """From where ``sender`` is, by the hook that sees it first."""
        family = self.family
        if sender == family.a:
            return self.send(packet)
        if sender == family.b:
            return self.programs.run("from_pod", ethernet(GATEWAY_MAC, B_MAC, packet), B_LINK)
        if sender == family.overlay:
            frame = ethernet(GATEWAY_MAC, OVERLAY_SOURCE_MAC, packet)
            outer = in_vxlan(OVERLAY_NODE, V4.node, VNI, frame)
            return self.programs.run("from_uplink", ethernet(NODE_MAC, ROUTER_MAC, outer), UPLINK)
        if sender in (family.node, family.outside):
            return self.programs.run("to_pod", ethernet(A_MAC, GATEWAY_MAC, packet), A_LINK)
        return self.programs.run("from_uplink", ethernet(NODE_MAC, ROUTER_MAC, packet), UPLINK)

    def hits(self) -> list[int]:
        """How often each port of the Service was chosen for."""
        found = self.programs.maps["service_hits"]
        words = [found.get(index.to_bytes(4, "little")) or b"" for index in self.indices()]
        return [int.from_bytes(word, "little") for word in words]

    def indices(self) -> list[int]:
        """What frontends lead to, without the special ones."""
        values = self.programs.maps["frontends"].items(20).values()
        found = {int.from_bytes(value[i : i + 4], "little") for value in values for i in (0, 4)}
        return sorted(index for index in found if index >= 2)


def clear_services(programs: Programs) -> None:
    """Whoever wrote them: the maps are as they were at first."""
    maps = programs.maps
    for name, size in (("frontends", 20), ("sets", 4), ("backends", 8), ("members", 24)):
        maps[name].discard_all(list(maps[name].items(size)))
    for index in range(64):
        maps["services"][index.to_bytes(4, "little")] = bytes(4)
        maps["service_hits"][index.to_bytes(4, "little")] = bytes(maps["service_hits"].value_size)
    for name, size in (("service_cidrs", 20), ("source_ranges", 24)):
        for key in list(maps[name].keys(size)):
            maps[name].discard(key)


def reasons(outcome: Outcome) -> list[tuple[str, str]]:
    """(hook, reason) of all that was counted."""
    return list(outcome.counted)


def frame_to(family: Family, to: Address, packet: bytes) -> bytes:
    """How the client's packet leaves to a backend; of the overlay over IPv4, the inner frame."""
    if to in family.local:
        return ethernet(family.local[to][1], GATEWAY_MAC, packet)
    if to in (family.overlay, family.overlay_over_v6):
        return ethernet(GATEWAY_MAC, OVERLAY_SOURCE_MAC, packet)
    return ethernet(GATEWAY_MAC, A_MAC, packet)


def inner(family: Family, to: Address, packet: bytes) -> bytes:
    """Without the outer headers, which are looked at."""
    if to != family.overlay:
        return packet
    source, destination, vni, frame = out_of_vxlan(packet[14:])
    assert (source, destination, vni) == (V4.node.packed, OVERLAY_NODE.packed, VNI)
    return frame
