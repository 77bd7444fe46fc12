"""Pod to Service per packet: where it goes, as what, and how answers come back (S-20, S-37, S-52, S-70)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest
from cluster import A_MAC, GATEWAY_MAC, SHORT_CUT, V4, V6, Family
from packets import ACK, SCTP, SYN, TCP, UDP, ethernet, sctp, tcp
from programs import TC_ACT_REDIRECT, TC_ACT_UNSPEC
from service_scene import BACKEND_PORT, PORT, Scene, backends, frame_to, inner, reasons
from tests.plans import choosing

from tulle.model.address import Address, to_bytes


@dataclass(frozen=True)
class Payload:
    """What is sent, without the ports."""

    name: str
    protocol: int
    rest: bytes

    def __str__(self) -> str:
        return self.name


def payloads() -> Iterator[Payload]:
    dice = Random(7)
    yield Payload("SYN", TCP, tcp(0, 0, SYN)[4:])
    yield Payload("SYN with data", TCP, tcp(0, 0, SYN, b"GET / HTTP/1.1")[4:])
    for length in (0, 1, 13, 1200):
        rest = struct.pack("!HH", 8 + length, 0) + dice.randbytes(length)
        yield Payload(f"datagram of {length}", UDP, rest)
    for length in (16, 20, 36, 253, 1000):
        rest = sctp(0, 0, 1, dice.randbytes(length))[4:]
        yield Payload(f"INIT of {length}", SCTP, rest)


PAYLOADS = list(payloads())
PLACES = ("b", "native", "routed", "other_node", "overlay", "overlay_over_v6", "node", "outside", "a")
REASONS = {
    "a": "REASON_LOCAL_POD",
    "b": "REASON_LOCAL_POD",
    "overlay": "REASON_OVERLAY",
    "overlay_over_v6": "REASON_OVERLAY",
    "node": "REASON_SERVICE",
    "outside": "REASON_SERVICE",
}
ANSWERED_BY = {
    "a": ("HOOK_FROM_POD", "REASON_LOCAL_POD"),
    "b": ("HOOK_FROM_POD", "REASON_LOCAL_POD"),
    "node": ("HOOK_TO_POD", "REASON_DELIVERED"),
    "outside": ("HOOK_TO_POD", "REASON_DELIVERED"),
}
FROM_UPLINK = ("HOOK_FROM_UPLINK", "REASON_LOCAL_POD")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
def test_a_first_packet_goes_to_a_backend(scene: Scene, payload: Payload, place: str) -> None:
    """And every checksum is that of the new ends. On its way by the host's stack it keeps its hop limit."""
    family, to = scene.family, getattr(scene.family, place)
    scene.serve(payload.protocol, to)
    outcome = scene.send(scene.asked.packet(payload.protocol, payload.rest))
    by_stack = place in ("node", "outside")
    packet = scene.given(to).packet(payload.protocol, payload.rest, 64 if by_stack else 63)
    assert reasons(outcome) == [("HOOK_FROM_POD", REASONS.get(place, "REASON_NATIVE"))]
    assert outcome.action == (TC_ACT_UNSPEC if by_stack else TC_ACT_REDIRECT)
    assert inner(family, to, outcome.packet).hex() == frame_to(family, to, packet).hex()
    assert outcome.mark == (0 if by_stack or to in family.local else SHORT_CUT)
    assert scene.hits() == [1]


@pytest.mark.parametrize("place", [p for p in PLACES if p != "overlay_over_v6"])
@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
def test_the_answer_comes_from_the_service(scene: Scene, payload: Payload, place: str) -> None:
    """The overlay's device: ``test_bpf_on_the_wire.py``."""
    backend: Address = getattr(scene.family, place)
    scene.serve(payload.protocol, backend)
    scene.send(scene.asked.packet(payload.protocol, payload.rest))
    rest = answer_to(payload)
    outcome = scene.answer(backend, scene.given(backend).back.packet(payload.protocol, rest))
    assert reasons(outcome) == [ANSWERED_BY.get(place, FROM_UPLINK)]
    delivered = place in ("node", "outside")
    expected = scene.asked.back.packet(payload.protocol, rest, 64 if delivered else 63)
    assert outcome.packet.hex() == ethernet(A_MAC, GATEWAY_MAC, expected).hex()


def answer_to(payload: Payload) -> bytes:
    """SYN and ACK, or INIT ACK."""
    if payload.protocol == TCP:
        return tcp(0, 0, SYN | ACK, ack=8)[4:]
    return payload.rest.replace(b"\1", b"\2", 1) if payload.protocol == SCTP else payload.rest


def test_a_datagram_without_checksum_stays_without(scene: Scene) -> None:
    """RFC 768; RFC 6936 has the like for IPv6."""
    scene.serve(UDP, scene.family.b)
    rest = struct.pack("!HH", 12, 0) + b"abcd"
    asked, given = scene.asked.packet(UDP, rest), scene.given(scene.family.b).packet(UDP, rest, 63)
    headers = len(asked) - 12
    without = [p[: headers + 6] + bytes(2) + p[headers + 8 :] for p in (asked, given)]
    assert scene.send(without[0]).packet[14:].hex() == without[1].hex()


def test_a_checksum_that_becomes_zero_is_written_as_ones(scene: Scene) -> None:
    """RFC 768: zero says that there is none. One of these 65,536 datagrams has it after translation."""
    given = scene.given(scene.family.b)
    rests = (struct.pack("!HHH", 10, 0, word) for word in range(1 << 16))
    rest = next(r for r in rests if given.body(UDP, r)[6:8] == b"\xff\xff")
    scene.serve(UDP, scene.family.b)
    assert scene.send(scene.asked.packet(UDP, rest)).packet[14:].hex() == given.packet(UDP, rest, 63).hex()


def test_sctp_without_checksum_stays_without(scene: Scene) -> None:
    """RFC 9653; and what a sender leaves to its device, which would count what stands there already."""
    scene.serve(SCTP, scene.family.b)
    asked = scene.asked.packet(SCTP, sctp(0, 0, 1)[4:])
    at = len(asked) - len(sctp(0, 0, 1)) + 8
    outcome = scene.send(asked[:at] + bytes(4) + asked[at + 4 :])
    assert outcome.packet[14 + at : 18 + at] == bytes(4)


def test_the_same_ports_need_no_new_sctp_checksum(scene: Scene) -> None:
    """It does not cover addresses."""
    scene.serve(SCTP, (scene.family.b, PORT))
    rest = sctp(0, 0, 1, bytes(range(40)))[4:]
    expected = scene.given(scene.family.b, PORT).packet(SCTP, rest, 63)
    assert scene.send(scene.asked.packet(SCTP, rest)).packet[14:].hex() == expected.hex()


def test_padding_behind_the_packet_is_not_counted(scene: Scene) -> None:
    """Ethernet's shortest frame is longer than the shortest packets."""
    scene.serve(SCTP, scene.family.b)
    rest = sctp(0, 0, 1)[4:]
    outcome = scene.send(scene.asked.packet(SCTP, rest) + b"padding")
    assert (
        outcome.packet[14:].hex() == (scene.given(scene.family.b).packet(SCTP, rest, 63) + b"padding").hex()
    )


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
def test_a_flow_goes_on(scene: Scene, protocol: int) -> None:
    """Whoever answers without a port is the Service, and only a first packet counts as chosen."""
    rests = {
        TCP: (tcp(0, 0, SYN)[4:], tcp(0, 0, ACK, b"data")[4:]),
        UDP: (struct.pack("!HH", 8, 0), struct.pack("!HH", 11, 0) + b"abc"),
        SCTP: (sctp(0, 0, 1)[4:], sctp(0, 0, 0, b"data")[4:]),
    }
    scene.serve(protocol, scene.family.native)
    for rest in rests[protocol]:
        outcome = scene.send(scene.asked.packet(protocol, rest))
        expected = scene.given(scene.family.native).packet(protocol, rest, 63)
        assert outcome.packet[14:].hex() == expected.hex()
    assert scene.hits() == [1]


def test_protocols_at_one_port_are_different_services(scene: Scene) -> None:
    """S-26."""
    family = scene.family
    plans = [scene.plan(protocol, ()) for protocol in (TCP, UDP, SCTP)]
    chosen = zip(plans, (family.b, family.native, family.a), strict=True)
    scene.apply(*(choosing(p, backends=backends(to)) for p, to in chosen))
    for protocol, rest, to in (
        (TCP, tcp(0, 0, SYN)[4:], family.b),
        (UDP, struct.pack("!HH", 8, 0), family.native),
        (SCTP, sctp(0, 0, 1)[4:], family.a),
    ):
        packet = scene.send(scene.asked.packet(protocol, rest)).packet[14:]
        assert packet.hex() == scene.given(to).packet(protocol, rest, 63).hex()


@pytest.mark.parametrize("hop_limit", [0, 1])
def test_the_last_hop_is_the_stacks(scene: Scene, hop_limit: int) -> None:
    """Untranslated: its "time exceeded" quotes what the Pod sent."""
    scene.serve(TCP, scene.family.native)
    first = scene.asked.packet(TCP, tcp(0, 0, SYN)[4:])
    scene.send(first)
    packet = scene.asked.packet(TCP, tcp(0, 0, ACK)[4:], hop_limit)
    outcome = scene.send(packet)
    assert outcome.action == TC_ACT_UNSPEC
    assert reasons(outcome) == [("HOOK_FROM_POD", "REASON_HOP_LIMIT")]
    assert outcome.packet[14:].hex() == packet.hex()


def test_an_own_address_of_the_node_is_no_concern(scene: Scene) -> None:
    """SERVICE_OF_NODE: whatever port it is."""
    scene.table.own = frozenset({to_bytes(scene.vip)})
    scene.serve(TCP, scene.family.b)
    packet = scene.asked.packet(TCP, tcp(0, 0, SYN)[4:])
    outcome = scene.send(packet)
    assert (outcome.action, reasons(outcome)) == (TC_ACT_UNSPEC, [("HOOK_FROM_POD", "REASON_STACK")])
    assert outcome.packet[14:].hex() == packet.hex()


@pytest.mark.parametrize("which", [V4, V6], ids=str)
def test_one_service_in_both_families(scene: Scene, which: Family) -> None:
    """S-17: each family has its own backends."""
    if which.name != scene.family.name:
        other = Scene(scene.programs, which, scene.table)
        scene.apply(scene.plan(TCP, ()), other.plan(TCP, ()))
        assert len(scene.indices()) == 2
    else:
        scene.serve(TCP, (which.b, BACKEND_PORT))
        assert len(scene.indices()) == 1
