"""What nodes exchange on behalf of clients outside: the bytes of it, and who is believed."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
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
)
from packets import ACK, SCTP, SYN, TCP, UDP, ethernet, icmp, in_vxlan, ip, out_of_vxlan, sctp, summed, tcp
from programs import TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, Outcome
from service_scene import BACKEND_PORT, CLIENT_PORT, NODE_MAC, PORT, Ends, Scene, backends, reasons

from tulle.model.address import Address

HANDOVER_MAC, HANDBACK_MAC = bytes.fromhex("0274756c6c67"), bytes.fromhex("0274756c6c68")
SYN_ACK = SYN | ACK
FIRST = {TCP: tcp(0, 0, SYN)[4:], UDP: bytes((0, 12, 0, 0, 1, 2, 3, 4)), SCTP: sctp(0, 0, 1)[4:]}
LATER = {TCP: tcp(0, 0, ACK)[4:], UDP: FIRST[UDP], SCTP: sctp(0, 0, 0)[4:]}
protocols = pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])


def target(backend: Address, port: int = BACKEND_PORT) -> bytes:
    """What stands in a frame's destination MAC: the port, and the end of the Pod's address."""
    return port.to_bytes(2, "big") + backend.packed[-4:]


def outside(scene: Scene) -> Ends:
    """From the client outside to the Service."""
    return Ends(scene.family.outside, CLIENT_PORT, scene.vip, PORT)


def enter(scene: Scene, packet: bytes) -> Outcome:
    return scene.programs.run("from_uplink", ethernet(NODE_MAC, ROUTER_MAC, packet), UPLINK)


def from_node(scene: Scene, frame: bytes, sender: Address = OVERLAY_NODE) -> Outcome:
    """A frame of the overlay, straight from the wire."""
    outer = in_vxlan(sender, V4.node, VNI, frame)
    return scene.programs.run("from_uplink", ethernet(NODE_MAC, ROUTER_MAC, outer), UPLINK)


def taken(scene: Scene, protocol: int, ends: Ends | None = None, sender: Address = OVERLAY_NODE) -> Outcome:
    """A first packet for Pod ``a`` that another node handed over."""
    packet = (ends or outside(scene)).packet(protocol, FIRST[protocol])
    return from_node(scene, ethernet(target(scene.family.a), HANDOVER_MAC, packet), sender)


def from_a(scene: Scene, packet: bytes) -> Outcome:
    return scene.programs.run("from_pod", ethernet(GATEWAY_MAC, A_MAC, packet), A_LINK)


def carried(outcome: Outcome) -> bytes:
    """The frame in a packet to the other node."""
    source, destination, vni, frame = out_of_vxlan(outcome.packet[14:])
    assert (source, destination, vni) == (V4.node.packed, OVERLAY_NODE.packed, VNI)
    return frame


@protocols
def test_into_a_pod_here_and_out_again(scene: Scene, protocol: int) -> None:
    """S-20, S-43: the Pod sees the client, the client the Service."""
    family = scene.family
    scene.serve(protocol, family.b)
    ends, given = outside(scene), Ends(family.outside, CLIENT_PORT, family.b, BACKEND_PORT)
    outcome = enter(scene, ends.packet(protocol, FIRST[protocol]))
    assert reasons(outcome) == [("HOOK_FROM_UPLINK", "REASON_LOCAL_POD")]
    assert outcome.packet == ethernet(B_MAC, GATEWAY_MAC, given.packet(protocol, FIRST[protocol], 63))
    answer = ethernet(GATEWAY_MAC, B_MAC, given.back.packet(protocol, LATER[protocol]))
    outcome = scene.programs.run("from_pod", answer, B_LINK)
    assert reasons(outcome) == [("HOOK_FROM_POD", "REASON_ANSWERED")]
    assert outcome.packet[14:] == ends.back.packet(protocol, LATER[protocol])  # no route here: left as it is


@protocols
def test_handed_over_as_it_is(scene: Scene, protocol: int) -> None:
    """The frame says for whom; the packet is the client's own but for its hop limit."""
    scene.serve(protocol, scene.family.overlay)
    for rest in (FIRST[protocol], LATER[protocol]):
        outcome = enter(scene, outside(scene).packet(protocol, rest))
        assert (outcome.action, reasons(outcome)) == (
            TC_ACT_REDIRECT,
            [("HOOK_FROM_UPLINK", "REASON_HANDED_OVER")],
        )
        packet = outside(scene).packet(protocol, rest, 63)
        assert carried(outcome) == ethernet(target(scene.family.overlay), HANDOVER_MAC, packet)


@protocols
def test_taken_over_and_handed_back(scene: Scene, protocol: int) -> None:
    """The Pod sees the client; its answer goes to the node that handed over, with the Service's address."""
    family = scene.family
    given = Ends(family.outside, CLIENT_PORT, family.a, BACKEND_PORT)
    outcome = taken(scene, protocol)
    assert reasons(outcome) == [("HOOK_FROM_UPLINK", "REASON_LOCAL_POD")]
    assert outcome.packet == ethernet(A_MAC, GATEWAY_MAC, given.packet(protocol, FIRST[protocol], 63))
    outcome = from_a(scene, given.back.packet(protocol, LATER[protocol]))
    assert reasons(outcome) == [("HOOK_FROM_POD", "REASON_HANDED_BACK")]
    packet = outside(scene).back.packet(protocol, LATER[protocol], 63)
    assert carried(outcome) == ethernet(GATEWAY_MAC, HANDBACK_MAC, packet)


@protocols
def test_what_is_handed_back_goes_out(scene: Scene, protocol: int) -> None:
    """To a client that is a Pod elsewhere, too."""
    family = scene.family
    scene.serve(protocol, family.overlay)
    for client, reason in ((family.outside, "REASON_ANSWERED"), (family.native, "REASON_NATIVE")):
        ends = Ends(client, CLIENT_PORT, scene.vip, PORT)
        enter(scene, ends.packet(protocol, FIRST[protocol]))
        answer = ends.back.packet(protocol, LATER[protocol])
        outcome = from_node(scene, ethernet(GATEWAY_MAC, HANDBACK_MAC, answer))
        assert reasons(outcome) == [("HOOK_FROM_UPLINK", reason)]
        assert outcome.packet[-20:] == answer[-20:]


def test_nobody_else_hands_back(scene: Scene) -> None:
    """Neither what was not asked for, nor what another node was asked for."""
    ends = outside(scene)
    answer = ethernet(GATEWAY_MAC, HANDBACK_MAC, ends.back.packet(TCP, LATER[TCP]))
    assert reasons(from_node(scene, answer)) == [("HOOK_FROM_UPLINK", "DROP_HANDOVER_SENDER")]
    scene.serve(TCP, scene.family.overlay)
    enter(scene, ends.packet(TCP, FIRST[TCP]))
    outcome = from_node(scene, answer, V4.other_node)
    assert (outcome.action, reasons(outcome)) == (
        TC_ACT_SHOT,
        [("HOOK_FROM_UPLINK", "DROP_HANDOVER_SENDER")],
    )


def test_no_stranger_hands_over(scene: Scene) -> None:
    """The VXLAN device gets such frames, and from_overlay drops them."""
    outcome = taken(scene, TCP, sender=V4.outside)
    assert (outcome.action, reasons(outcome)) == (TC_ACT_UNSPEC, [("HOOK_FROM_UPLINK", "REASON_STACK")])


def test_a_pod_that_is_not_here(scene: Scene) -> None:
    packet = outside(scene).packet(TCP, FIRST[TCP])
    outcome = from_node(scene, ethernet(target(scene.family.nobody), HANDOVER_MAC, packet))
    assert reasons(outcome) == [("HOOK_FROM_UPLINK", "DROP_HANDOVER_POD")]


def test_one_source_port_by_two_nodes(scene: Scene) -> None:
    """Both of a client's connections have the same ends but for the node: the Pod must see two."""
    family = scene.family
    ours = Ends(family.outside, CLIENT_PORT, family.other_node, PORT)
    theirs = Ends(family.outside, CLIENT_PORT, family.routed, PORT)
    first = taken(scene, TCP, ours).packet
    second = taken(scene, TCP, theirs, V4.other_node).packet
    offset = 14 + (20 if family is V4 else 40)
    ports = [struct.unpack_from("!H", packet, offset)[0] for packet in (first, second)]
    assert ports[0] == CLIENT_PORT
    assert ports[1] != CLIENT_PORT
    for port, ends in zip(ports, (ours, theirs), strict=True):
        answer = Ends(family.a, BACKEND_PORT, family.outside, port).packet(TCP, LATER[TCP])
        outcome = from_a(scene, answer)
        assert reasons(outcome) == [("HOOK_FROM_POD", "REASON_HANDED_BACK")]
        assert outcome.packet.endswith(ends.back.packet(TCP, LATER[TCP], 63))


@pytest.mark.parametrize("before", [b"", b"\1", b"\1\1\1", b"\3\3\7"], ids=["first", "odd", "third", "last"])
@pytest.mark.parametrize("said", [9000, 1300])
def test_segments_fit_into_the_overlay(scene: Scene, before: bytes, said: int) -> None:
    """Whichever option is before it; and never more than the client said itself."""
    scene.serve(TCP, scene.family.overlay)

    def syn(size: int) -> bytes:
        options = (before + struct.pack("!BBH", 2, 4, size)).ljust(8, b"\0")
        header = struct.pack("!IIBBHHH", 7, 0, 0x70, SYN, 64000, 0, 0)
        return header + options

    most = 1500 - (40 if scene.family is V4 else 60)
    packet = carried(enter(scene, outside(scene).packet(TCP, syn(said))))[14:]
    assert packet == outside(scene).packet(TCP, syn(min(said, most)), 63)


def test_an_error_about_what_was_handed_over(scene: Scene) -> None:
    """S-68: a router's, about an answer, goes where the flow goes, and tells the Pod of its own packet."""
    family = scene.family
    router = family.routed
    quoted = outside(scene).back.packet(UDP, FIRST[UDP])
    kind = 3 if family is V4 else 1
    scene.serve(UDP, family.overlay)
    enter(scene, outside(scene).packet(UDP, FIRST[UDP]))
    error = icmp(kind, 1, quoted)
    protocol = 1 if family is V4 else 58
    told = ip(router, scene.vip, protocol, summed(router, scene.vip, protocol, error))
    frame = carried(enter(scene, told))
    assert frame[6:12] == HANDOVER_MAC
    taken(scene, UDP)
    outcome = from_node(scene, ethernet(target(family.a), HANDOVER_MAC, told))
    assert reasons(outcome) == [("HOOK_FROM_UPLINK", "REASON_LOCAL_POD")]
    answer = Ends(family.a, BACKEND_PORT, family.outside, CLIENT_PORT)
    assert answer.packet(UDP, FIRST[UDP])[-12:-8] in outcome.packet
    assert family.a.packed in outcome.packet[14:]


@pytest.mark.parametrize("flags", [ACK, SYN_ACK])
def test_amid_a_connection_the_address_may_move(scene: Scene, flags: int) -> None:
    """What nothing is known of is led alike on each node, by its hash; here and after a SYN there."""
    family = scene.family
    scene.apply(scene.plan(TCP, backends(family.overlay, (family.overlay, 8081), (family.overlay, 8082))))
    for port in range(CLIENT_PORT, CLIENT_PORT + 16):
        ends = Ends(family.outside, port, scene.vip, PORT)
        amid = carried(enter(scene, ends.packet(TCP, tcp(0, 0, flags)[4:])))[:6]
        for key in list(scene.programs.maps["flows"].keys(40)):
            scene.programs.maps["flows"].discard(key)
        assert carried(enter(scene, ends.packet(TCP, FIRST[TCP])))[:6] == amid


def test_the_nodes_own_connections_are_left_alone(scene: Scene) -> None:
    """An answer to what the node asked from the port of a frontend is the node's."""
    family = scene.family
    scene.apply(scene.plan(TCP, backends(family.a), vip=family.node))
    ends = Ends(family.outside, 443, family.node, PORT)
    outcome = enter(scene, ends.packet(TCP, tcp(0, 0, SYN_ACK)[4:]))
    assert (outcome.action, reasons(outcome)) == (TC_ACT_UNSPEC, [("HOOK_FROM_UPLINK", "REASON_STACK")])
    assert OVERLAY_SOURCE_MAC not in outcome.packet


def test_nobody_elses_packets_reach_loopback(scene: Scene) -> None:
    """A host port at 127.0.0.1 or ::1 is for the node's own sockets, whoever makes such packets."""
    family = scene.family
    loopback = ip_address("127.0.0.1" if family is V4 else "::1")
    scene.apply(scene.plan(TCP, backends(family.b), vip=loopback))
    for outcome in (
        from_a(scene, Ends(family.a, CLIENT_PORT, loopback, PORT).packet(TCP, FIRST[TCP])),
        enter(scene, Ends(family.outside, CLIENT_PORT, loopback, PORT).packet(TCP, FIRST[TCP])),
    ):
        assert outcome.action == TC_ACT_UNSPEC
        assert [reason for _, reason in reasons(outcome)] == ["REASON_STACK"]
