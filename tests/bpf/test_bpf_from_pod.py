"""What a Pod sends: short cuts, what is left to the host's stack, and what is dropped (N-02, N-05, N-21)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address

import packets
import pytest
from cluster import (
    A_LINK,
    A_LINK_LOCAL,
    A_MAC,
    B_MAC,
    GATEWAY_MAC,
    MTU,
    OVERLAY_NODE,
    OVERLAY_SOURCE_MAC,
    SHORT_CUT,
    V4,
    V6,
    VNI,
    Family,
    await_in_stack,
    flow,
)
from packets import (
    ACK,
    FRAGMENT,
    MORE_FRAGMENTS,
    SCTP,
    SYN,
    TCP,
    UDP,
    arp,
    echo,
    ethernet,
    icmp_error,
    ip,
    ipv6_fragment,
    out_of_vxlan,
    ports,
)
from programs import TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, Programs

from tulle.kernel.bpf_maps import RingBuffer
from tulle.model.address import Address, to_bytes


@dataclass(frozen=True)
class Case:
    """``after`` is the packet as it leaves; without it the packet stays as it came.

    ``over_ipv4``: it leaves with the overlay's outer headers, and ``after`` is the inner frame.
    """

    name: str
    packet: bytes
    reason: str
    after: bytes = b""
    mark: int = 0
    over_ipv4: bool = False

    @property
    def action(self) -> int:
        if self.reason.startswith("DROP_"):
            return TC_ACT_SHOT
        return TC_ACT_REDIRECT if self.after else TC_ACT_UNSPEC


def sent(packet: bytes, source: bytes = A_MAC, ethertype: int = 0) -> bytes:
    """As Pod ``a`` sends it: to the gateway."""
    return ethernet(GATEWAY_MAC, source, packet, ethertype)


def short_cuts(family: Family) -> Iterator[Case]:
    def way(to: Address, protocol: int, payload: bytes, hop_limit: int) -> bytes:
        return ip(family.a, to, protocol, payload, hop_limit)

    payloads = {
        "TCP": (TCP, ports(40000, 80)),
        "UDP": (UDP, ports(40000, 53)),
        "SCTP": (SCTP, ports(40000, 9)),
        "echo": (family.icmp, echo(7)),
        "unknown protocol": (253, b"anything"),
        "TCP without ports": (TCP, b"\0\1"),
        "no payload": (UDP, b""),
    }
    for name, (protocol, payload) in payloads.items():
        after = ethernet(B_MAC, GATEWAY_MAC, way(family.b, protocol, payload, 63))
        yield Case(
            f"{name} to a Pod here", sent(way(family.b, protocol, payload, 64)), "REASON_LOCAL_POD", after
        )

    def case(name: str, to: Address, reason: str, destination: bytes, source: bytes, hop_limit: int) -> Case:
        before = sent(way(to, TCP, ports(1, 2), hop_limit))
        after = ethernet(destination, source, way(to, TCP, ports(1, 2), hop_limit - 1))
        return Case(name, before, reason, after, SHORT_CUT)

    for hop_limit in (2, 64, 255):
        yield case(
            f"native, hop limit {hop_limit}", family.native, "REASON_NATIVE", GATEWAY_MAC, A_MAC, hop_limit
        )
    inner = "REASON_OVERLAY", GATEWAY_MAC, OVERLAY_SOURCE_MAC, 64
    yield case("native by the routes", family.routed, "REASON_NATIVE", GATEWAY_MAC, A_MAC, 64)
    yield case("another node itself", family.other_node, "REASON_NATIVE", GATEWAY_MAC, A_MAC, 64)
    yield replace(case("overlay over IPv4", family.overlay, *inner), over_ipv4=True)
    yield case("overlay over IPv6", family.overlay_over_v6, *inner)


def left_to_the_stack(family: Family) -> Iterator[Case]:
    def case(
        name: str, to: Address, reason: str = "REASON_STACK", hop_limit: int = 64, size: int = 8
    ) -> Case:
        return Case(name, sent(ip(family.a, to, UDP, ports(1, 2, bytes(size)), hop_limit)), reason)

    yield case("this node", family.node)
    yield case("outside", family.outside)
    yield case("an address that no Pod has", family.nobody)
    yield case("link-local", family.link_local)
    yield case("multicast", family.multicast)
    for to, name in ((family.b, "Pod here"), (family.native, "native"), (family.overlay, "overlay")):
        yield case(f"last hop, {name}", to, "REASON_HOP_LIMIT", hop_limit=1)
        yield case(f"hop limit 0, {name}", to, "REASON_HOP_LIMIT", hop_limit=0)
    headers = 20 if family is V4 else 40
    too_much = MTU - headers - len(ports(1, 2, b"")) + 1
    yield case("too big for the uplink", family.native, "REASON_TOO_BIG", size=too_much)
    yield case("too big for the overlay", family.overlay, "REASON_TOO_BIG", size=too_much)


def dropped(family: Family) -> Iterator[Case]:
    def case(name: str, reason: str, source: Address, mac: bytes = A_MAC, to: Address = family.b) -> Case:
        return Case(name, sent(ip(source, to, TCP, ports(1, 2)), mac), reason)

    sources = {
        "another Pod here": family.b,
        "a Pod elsewhere": family.native,
        "nobody": family.nobody,
        "the node": family.node,
        "outside": family.outside,
        "unspecified": family.unspecified,
    }
    for name, source in sources.items():
        yield case(f"source of {name}", "DROP_SPOOFED_SOURCE", source)
    yield case("source of another Pod to the outside", "DROP_SPOOFED_SOURCE", family.b, to=family.outside)
    yield case("source of another Pod to multicast", "DROP_SPOOFED_SOURCE", family.b, to=family.multicast)
    yield case("MAC of another Pod", "DROP_SPOOFED_MAC", family.a, B_MAC)
    yield case("source and MAC of another Pod", "DROP_SPOOFED_SOURCE", family.b, B_MAC)


def only_ipv4() -> Iterator[Case]:
    a, b = V4.a, V4.b

    def fragment(name: str, field: int) -> Case:
        return Case(name, sent(ip(a, b, UDP, ports(1, 2), fragment=field)), "REASON_FRAGMENT")

    yield fragment("first fragment", MORE_FRAGMENTS)
    yield fragment("fragment in the middle", MORE_FRAGMENTS | 185)
    yield fragment("last fragment", 185)
    whole, after = (ip(a, b, UDP, ports(1, 2), hops, fragment=0x4000) for hops in (64, 63))
    yield Case("do not fragment", sent(whole), "REASON_LOCAL_POD", ethernet(B_MAC, GATEWAY_MAC, after))
    short = bytearray(ip(a, b, UDP, ports(1, 2)))
    short[0] = 0x44
    yield Case("header length below 20", sent(bytes(short)), "DROP_MALFORMED")
    yield Case("broadcast", sent(ip(a, ip_address("255.255.255.255"), UDP, ports(1, 2))), "REASON_STACK")

    def ask(
        name: str, reason: str, mac: bytes, sender: Address, frame_mac: bytes = A_MAC, cut: int = 0
    ) -> Case:
        asked = arp(mac, sender, V4.link_local)
        return Case(name, sent(asked[: len(asked) - cut], frame_mac, packets.ETH_ARP), reason)

    yield ask("ARP", "REASON_STACK", A_MAC, a)
    yield ask("ARP for another Pod's address", "DROP_SPOOFED_SOURCE", A_MAC, b)
    yield ask("ARP with the node's address", "DROP_SPOOFED_SOURCE", A_MAC, V4.node)
    yield ask("ARP that tells another MAC", "DROP_SPOOFED_MAC", B_MAC, a)
    yield ask("ARP from another MAC", "DROP_SPOOFED_MAC", A_MAC, a, B_MAC)
    yield ask("ARP cut off", "DROP_MALFORMED", A_MAC, a, cut=11)
    yield Case("neither IP nor ARP", sent(bytes(46), ethertype=packets.ETH_LLDP), "DROP_NOT_IP")


def only_ipv6() -> Iterator[Case]:
    a, b, unspecified = V6.a, V6.b, V6.unspecified
    for name, header in (
        ("first fragment", ipv6_fragment(UDP, ports(1, 2))),
        ("later fragment", ipv6_fragment(UDP, bytes(8), offset=8, more=False)),
    ):
        yield Case(name, sent(ip(a, b, FRAGMENT, header)), "REASON_FRAGMENT")
    solicited = ip_address("ff02::1:ff00:1")
    yield Case("duplicate address detection", sent(ip(unspecified, solicited, 58, echo(0))), "REASON_STACK")
    asked = ip(A_LINK_LOCAL, V6.link_local, 58, echo(0), 255)
    yield Case("neighbour discovery", sent(asked), "REASON_STACK")
    to_a_pod = ip(A_LINK_LOCAL, b, 58, echo(0))
    yield Case("own link-local address to a Pod", sent(to_a_pod), "REASON_STACK")
    mapped = [ip_address(f"::ffff:{address}") for address in (V4.a, V4.b)]
    yield Case("IPv4-mapped addresses", sent(ip(*mapped, UDP, ports(1, 2))), "DROP_MALFORMED")
    foreign = ip(V6.link_local, V6.multicast, 58, echo(0))
    yield Case("the gateway's link-local address", sent(foreign), "DROP_SPOOFED_SOURCE")


TABLE = [
    pytest.param(case, id=f"{name}: {case.name}")
    for name, cases in (
        *((f.name, part(f)) for f in (V4, V6) for part in (short_cuts, left_to_the_stack, dropped)),
        ("v4", only_ipv4()),
        ("v6", only_ipv6()),
    )
    for case in cases
]


@pytest.mark.parametrize("case", TABLE)
def test_from_pod(programs: Programs, case: Case) -> None:
    outcome = programs.run("from_pod", case.packet, A_LINK)
    assert list(outcome.counted) == [("HOOK_FROM_POD", case.reason)]
    assert outcome.action == case.action
    after = outcome.packet
    if case.over_ipv4:
        source, destination, vni, after = out_of_vxlan(outcome.packet[14:])
        assert (source, destination, vni) == (V4.node.packed, OVERLAY_NODE.packed, VNI)
    assert after.hex() == (case.after or case.packet).hex()
    assert outcome.counted["HOOK_FROM_POD", case.reason] == (1, len(outcome.packet))
    told = [programs.contract.enums["reason"](e.reason).name for e in outcome.events]
    assert told == ([case.reason] if case.action == TC_ACT_SHOT else [])


@pytest.mark.parametrize("family", [V4, V6], ids=str)
def test_mark_of_the_short_cut(programs: Programs, family: Family) -> None:
    def mark(to: Address) -> int:
        return programs.run("from_pod", sent(ip(family.a, to, UDP, ports(1, 2))), A_LINK).mark

    to_devices = (family.native, family.routed, family.overlay, family.overlay_over_v6)
    assert [mark(to) for to in to_devices] == [SHORT_CUT] * len(to_devices)
    assert [mark(to) for to in (family.b, family.node, family.outside)] == [0, 0, 0]


@pytest.mark.parametrize("family", [V4, V6], ids=str)
@pytest.mark.parametrize("to", ["b", "native", "overlay"])
def test_what_the_stack_translates_is_left_to_it(programs: Programs, family: Family, to: str) -> None:
    destination: Address = getattr(family, to)

    def reason(source_port: int) -> str:
        packet = sent(ip(family.a, destination, TCP, ports(source_port, 80)))
        [(_, found)] = programs.run("from_pod", packet, A_LINK).counted
        return found

    await_in_stack(programs, flow(programs, family.a, destination, TCP, (40000, 80)))
    assert reason(40000) == "REASON_STACK_FLOW"
    assert reason(40001) != "REASON_STACK_FLOW"


@pytest.mark.parametrize("family", [V4, V6], ids=str)
@pytest.mark.parametrize("to", ["b", "native", "overlay"])
def test_a_new_connection_forgets_an_old_one_with_the_same_ends(
    programs: Programs, family: Family, to: str
) -> None:
    """Else its answers go to the stack, where connection tracking takes them for invalid."""
    destination: Address = getattr(family, to)

    def open_by(flags: int) -> list[bytes]:
        segment = ports(40000, 80, bytes(9) + bytes([flags]) + bytes(6))
        programs.run("from_pod", sent(ip(family.a, destination, TCP, segment)), A_LINK)
        return list(programs.maps["flows"].keys(len(answer)))

    answer = flow(programs, destination, family.a, TCP, (80, 40000))
    await_in_stack(programs, answer)
    assert open_by(ACK) == [answer]
    assert open_by(SYN) == []


@pytest.mark.parametrize("family", [V4, V6], ids=str)
@pytest.mark.parametrize("to", ["b", "native"])
def test_an_icmp_error_goes_the_way_of_the_connection_that_it_speaks_of(
    programs: Programs, family: Family, to: str
) -> None:
    """What the host translates it translates in the quoted packet, too; the Pod would not know it else."""
    sender: Address = getattr(family, to)

    def reason(port: int) -> str:
        quoted = ip(sender, family.a, UDP, ports(port, 53))
        error = sent(ip(family.a, sender, family.icmp, icmp_error(family.a.version, quoted)))
        [(_, found)] = programs.run("from_pod", error, A_LINK).counted
        return found

    await_in_stack(programs, flow(programs, family.a, sender, UDP, (53, 40000)))
    assert reason(40000) == "REASON_STACK_FLOW"
    assert reason(40001) == ("REASON_LOCAL_POD" if to == "b" else "REASON_NATIVE")


@pytest.mark.parametrize("family", [V4, V6], ids=str)
def test_a_drop_is_told_with_its_flow(programs: Programs, family: Family) -> None:
    packet = sent(ip(family.nobody, family.b, TCP, ports(40000, 80)))
    [event] = programs.run("from_pod", packet, A_LINK).events
    assert bytes(event.flow) == flow(programs, family.nobody, family.b, TCP, (40000, 80))
    assert (event.ifindex, event.hook) == (A_LINK, programs.contract.enums["hook"]["HOOK_FROM_POD"])
    assert event.time > 0


def test_a_flood_of_drops_lets_its_reader_go(programs: Programs) -> None:
    packet, most = sent(ip(V4.nobody, V4.b, TCP, ports(1, 2))), RingBuffer.MOST
    assert programs.flood("from_pod", packet, A_LINK, most + 10) == (False, most)
    assert programs.flood("from_pod", packet, A_LINK, 1) == (True, 11)


def test_an_arp_drop_is_told_with_its_sender(programs: Programs) -> None:
    asked = arp(A_MAC, V4.b, V4.link_local)
    [event] = programs.run("from_pod", sent(asked, ethertype=packets.ETH_ARP), A_LINK).events
    assert bytes(event.flow.source) == to_bytes(V4.b)
