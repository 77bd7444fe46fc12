"""What comes from other nodes by the uplink: Pods here get it at once, the rest is the host's stack's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from cluster import (
    A_MAC,
    GATEWAY_MAC,
    OVERLAY,
    OVERLAY_NODE,
    OVERLAY_SOURCE_MAC,
    ROUTER_MAC,
    UPLINK,
    V4,
    V6,
    VNI,
    Family,
    await_in_stack,
    flow,
)
from packets import ETH_ARP, MORE_FRAGMENTS, TCP, arp, echo, ethernet, in_vxlan, ip, ports
from programs import TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, Programs

from tulle.model.address import Address

NODE_MAC = bytes.fromhex("0a00000000fe")


def received(packet: bytes, ethertype: int = 0) -> bytes:
    return ethernet(NODE_MAC, ROUTER_MAC, packet, ethertype)


def rows(family: Family) -> Iterator[tuple[str, Address, Address, int, str]]:
    """(name, source, destination, hop limit, reason)."""
    here = family.a
    yield "Pod on a native node", family.native, here, 64, "REASON_LOCAL_POD"
    yield "Pod behind routers", family.routed, here, 62, "REASON_LOCAL_POD"
    yield "another node", family.other_node, here, 64, "REASON_LOCAL_POD"
    yield "outside", family.outside, here, 64, "REASON_STACK"
    yield "to the node", family.native, family.node, 64, "REASON_STACK"
    yield "no such Pod", family.native, family.nobody, 64, "REASON_STACK"
    yield "passing through", family.native, family.overlay, 64, "REASON_STACK"
    yield "last hop", family.native, here, 1, "REASON_HOP_LIMIT"
    yield "multicast", family.native, family.multicast, 64, "REASON_STACK"


TABLE = [pytest.param(f, *row[1:], id=f"{f}: {row[0]}") for f in (V4, V6) for row in rows(f)]


@pytest.mark.parametrize(("family", "source", "destination", "hop_limit", "reason"), TABLE)
def test_from_uplink(
    programs: Programs, family: Family, source: Address, destination: Address, hop_limit: int, reason: str
) -> None:
    def packet(hops: int) -> bytes:
        return ip(source, destination, TCP, ports(80, 40000), hops)

    outcome = programs.run("from_uplink", received(packet(hop_limit)), UPLINK)
    assert list(outcome.counted) == [("HOOK_FROM_UPLINK", reason)]
    if reason == "REASON_LOCAL_POD":
        assert outcome.action == TC_ACT_REDIRECT
        assert outcome.packet == ethernet(A_MAC, GATEWAY_MAC, packet(hop_limit - 1))
    else:
        assert outcome.action == TC_ACT_UNSPEC
        assert outcome.packet == received(packet(hop_limit))


def test_answers_to_the_stack(programs: Programs) -> None:
    """Later fragments have no ports, and what the host translates must pass by it both ways."""
    answer = ip(V4.native, V4.a, TCP, ports(80, 40000))
    await_in_stack(programs, flow(programs, V4.native, V4.a, TCP, (80, 40000)))
    fragment = ip(V4.native, V4.a, TCP, ports(81, 40000), fragment=MORE_FRAGMENTS)
    for packet, reason in ((answer, "REASON_STACK_FLOW"), (fragment, "REASON_FRAGMENT")):
        outcome = programs.run("from_uplink", received(packet), UPLINK)
        assert list(outcome.counted) == [("HOOK_FROM_UPLINK", reason)]
        assert outcome.action == TC_ACT_UNSPEC


@dataclass(frozen=True)
class Outer:
    """What may be wrong with a packet of the overlay before its inner frame is looked at."""

    source: Address = OVERLAY_NODE
    destination: Address = V4.node
    vni: int = VNI
    fragment: int = 0

    def around(self, packet: bytes) -> bytes:
        frame = ethernet(GATEWAY_MAC, OVERLAY_SOURCE_MAC, packet)
        return received(in_vxlan(self.source, self.destination, self.vni, frame, self.fragment))


@pytest.mark.parametrize("family", [V4, V6], ids=str)
def test_overlay_over_ipv4_is_opened_on_the_uplink(programs: Programs, family: Family) -> None:
    def inner(hops: int) -> bytes:
        return ip(family.overlay, family.a, TCP, ports(80, 40000), hops)

    outcome = programs.run("from_uplink", Outer().around(inner(64)), UPLINK)
    assert (outcome.action, list(outcome.counted)) == (
        TC_ACT_REDIRECT,
        [("HOOK_FROM_UPLINK", "REASON_LOCAL_POD")],
    )
    assert outcome.packet.hex() == ethernet(A_MAC, GATEWAY_MAC, inner(63)).hex()


@pytest.mark.parametrize("family", [V4, V6], ids=str)
@pytest.mark.parametrize(
    ("outer", "reason"),
    [
        pytest.param(Outer(source=V4.other_node), "REASON_STACK", id="from another node"),
        pytest.param(Outer(destination=V4.other_node), "REASON_STACK", id="to another node"),
        pytest.param(Outer(vni=VNI + 1), "REASON_STACK", id="of another network"),
        pytest.param(Outer(fragment=MORE_FRAGMENTS), "REASON_STACK", id="in fragments"),
        pytest.param(Outer(), "REASON_HOP_LIMIT", id="last hop"),
    ],
)
def test_the_overlays_device_gets_the_rest_whole(
    programs: Programs, family: Family, outer: Outer, reason: str
) -> None:
    packet = outer.around(ip(family.overlay, family.a, TCP, ports(80, 40000), 1 if outer == Outer() else 64))
    outcome = programs.run("from_uplink", packet, UPLINK)
    assert (outcome.action, list(outcome.counted)) == (TC_ACT_UNSPEC, [("HOOK_FROM_UPLINK", reason)])
    assert outcome.packet == packet


def test_overlay_frames_for_nobody_here_are_the_devices(programs: Programs) -> None:
    to_nobody, from_nobody = (
        ip(V4.overlay, V4.nobody, TCP, ports(1, 2)),
        ip(V4.outside, V4.a, TCP, ports(1, 2)),
    )
    for packet in (to_nobody, from_nobody, to_nobody[:12]):
        outcome = programs.run("from_uplink", Outer().around(packet), UPLINK)
        assert (outcome.action, list(outcome.counted)) == (
            TC_ACT_UNSPEC,
            [("HOOK_FROM_UPLINK", "REASON_STACK")],
        )


def test_arp_on_the_uplink(programs: Programs) -> None:
    asked = arp(ROUTER_MAC, V4.other_node, V4.node)
    outcome = programs.run("from_uplink", received(asked, ETH_ARP), UPLINK)
    assert (outcome.action, list(outcome.counted)) == (TC_ACT_UNSPEC, [("HOOK_FROM_UPLINK", "REASON_STACK")])


@pytest.mark.parametrize("family", [V4, V6], ids=str)
def test_overlay_packet_without_an_outer_header(programs: Programs, family: Family) -> None:
    """Nobody has vouched for its source. Real outer headers: ``test_bpf_on_the_wire.py``."""
    packet = received(ip(family.overlay, family.a, family.icmp, echo(1)))
    outcome = programs.run("from_overlay", packet, OVERLAY)
    assert list(outcome.counted) == [("HOOK_FROM_OVERLAY", "DROP_OVERLAY_SENDER")]
    assert outcome.action == TC_ACT_SHOT
    assert len(outcome.events) == 1


def test_no_ip_in_the_overlay(programs: Programs) -> None:
    asked = arp(ROUTER_MAC, V4.other_node, V4.node)
    short = bytearray(ip(V4.overlay, V4.a, TCP, ports(1, 2)))
    short[0] = 0x44  # a header of 16 bytes
    for packet, ethertype, reason in ((asked, ETH_ARP, "DROP_NOT_IP"), (bytes(short), 0, "DROP_MALFORMED")):
        outcome = programs.run("from_overlay", received(packet, ethertype), OVERLAY)
        assert (outcome.action, list(outcome.counted)) == (TC_ACT_SHOT, [("HOOK_FROM_OVERLAY", reason)])
