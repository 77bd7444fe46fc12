"""Services that cannot be reached: refused or dropped at once, with the reason (S-29, S-40, S-41)."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from cluster import A_LINK, A_MAC, GATEWAY_MAC, UPLINK, flow
from packets import (
    ACK,
    FIN,
    FRAGMENT,
    RST,
    SCTP,
    SYN,
    TCP,
    UDP,
    checksum,
    echo,
    ethernet,
    icmp,
    ip,
    ipv6_fragment,
    sctp,
    summed,
    tcp,
)
from programs import TC_ACT_REDIRECT, TC_ACT_SHOT, Outcome
from service_scene import PORT, UNALLOCATED, Ends, Scene, backends, reasons

from tulle.pod_to_service.plan import OnEmpty

DATAGRAM = struct.pack("!HH", 12, 0) + b"abcd"
FIRST = {TCP: tcp(0, 0, SYN)[4:], UDP: DATAGRAM, SCTP: sctp(0, 0, 1)[4:]}


def reset(ends: Ends, seq: int, ack: int | None) -> bytes:
    """What refuses a segment that went from ``ends.source``, as a frame to the client."""
    header = struct.pack("!IIBBHHH", seq, ack or 0, 0x50, RST | (ACK if ack is not None else 0), 0, 0, 0)
    back = ends.back
    return answered(ends, TCP, back.body(TCP, header))


def answered(ends: Ends, protocol: int, body: bytes) -> bytes:
    packet = bytearray(ip(ends.destination, ends.source, protocol, body))
    if ends.source.version == 4:
        packet[4:8] = b"\0\0\x40\0"  # no identification, and "don't fragment" instead
        packet[10:12] = b"\0\0"
        packet[10:12] = struct.pack("!H", checksum(bytes(packet[:20])))
    return ethernet(A_MAC, GATEWAY_MAC, bytes(packet))


def unreachable(scene: Scene, packet: bytes, quoted: int) -> bytes:
    """ICMP's or ICMPv6's "port unreachable" from the Service, with that many bytes behind the IP header."""
    six = scene.family.a.version == 6
    body = icmp(1 if six else 3, 4 if six else 3, packet[: (40 if six else 20) + quoted])
    body = summed(scene.vip, scene.family.a, scene.family.icmp, body)
    return answered(scene.asked, scene.family.icmp, body)


def assert_refused(outcome: Outcome, reason: str, frame: bytes) -> None:
    assert reasons(outcome) == [("HOOK_FROM_POD", reason)]
    assert outcome.action == TC_ACT_REDIRECT
    assert outcome.packet.hex() == frame.hex()
    assert len(outcome.events) == 1


def assert_dropped(scene: Scene, outcome: Outcome, reason: str) -> Any:
    assert reasons(outcome) == [("HOOK_FROM_POD", reason)]
    assert outcome.action == TC_ACT_SHOT
    [event] = outcome.events
    assert scene.programs.contract.enums["reason"](event.reason).name == reason
    return event


SEGMENTS = [
    pytest.param(tcp(0, 0, SYN, seq=7), 0, 8, id="SYN"),
    pytest.param(tcp(0, 0, SYN, b"hello", seq=7), 0, 13, id="SYN with data"),
    pytest.param(tcp(0, 0, SYN, seq=0xFFFFFFFF), 0, 0, id="SYN at the end of the numbers"),
    pytest.param(tcp(0, 0, SYN | FIN, b"odd", seq=7), 0, 12, id="SYN and FIN"),
]


@pytest.mark.parametrize(("segment", "seq", "ack"), SEGMENTS)
def test_a_connection_to_nobody_is_reset(scene: Scene, segment: bytes, seq: int, ack: int) -> None:
    """S-40; the numbers are those of RFC 9293, section 3.5.2."""
    scene.serve(TCP)
    outcome = scene.send(scene.asked.packet(TCP, segment[4:]))
    assert_refused(outcome, "DROP_SERVICE_EMPTY", reset(scene.asked, seq, ack))


@pytest.mark.parametrize(
    ("segment", "seq", "ack"),
    [
        pytest.param(tcp(0, 0, ACK, seq=7, ack=99), 99, None, id="ACK"),
        pytest.param(tcp(0, 0, ACK, b"data", seq=7, ack=0xFFFFFFFE), 0xFFFFFFFE, None, id="ACK with data"),
        pytest.param(tcp(0, 0, SYN | ACK, seq=7, ack=99), 99, None, id="SYN and ACK"),
        pytest.param(tcp(0, 0, FIN | ACK, seq=7, ack=99), 99, None, id="FIN and ACK"),
        pytest.param(tcp(0, 0, 0, b"data", seq=7), 0, 11, id="no flags"),
    ],
)
def test_amid_a_connection_that_nobody_knows(scene: Scene, segment: bytes, seq: int, ack: int | None) -> None:
    """It could not be continued anywhere: whoever was chosen, nobody remembers."""
    scene.serve(TCP, scene.family.native)
    outcome = scene.send(scene.asked.packet(TCP, segment[4:]))
    assert_refused(outcome, "DROP_SERVICE_FLOW", reset(scene.asked, seq, ack))


@pytest.mark.parametrize("flags", [RST, RST | ACK])
@pytest.mark.parametrize("served", [True, False])
def test_nothing_answers_a_reset(scene: Scene, flags: int, served: bool) -> None:
    scene.serve(TCP, *([scene.family.b] if served else []))
    assert_dropped(scene, scene.send(scene.asked.packet(TCP, tcp(0, 0, flags)[4:])), "DROP_SERVICE_FLOW")


@pytest.mark.parametrize(
    ("protocol", "rest", "quoted"),
    [
        pytest.param(UDP, struct.pack("!HH", 8, 0), 8, id="no data"),
        pytest.param(UDP, struct.pack("!HH", 19, 0) + bytes(11), 8, id="some data"),
        pytest.param(UDP, struct.pack("!HH", 20, 0) + bytes(12), 20, id="more data"),
        pytest.param(UDP, struct.pack("!HH", 1208, 0) + bytes(1200), 20, id="much data"),
        pytest.param(SCTP, sctp(0, 0, 1)[4:], 20, id="INIT"),
    ],
)
def test_a_datagram_to_nobody_is_answered(scene: Scene, protocol: int, rest: bytes, quoted: int) -> None:
    """S-40. SCTP believes it if the tag of its INIT is quoted (RFC 9260, section 10, ICMP6)."""
    scene.serve(protocol)
    packet = scene.asked.packet(protocol, rest)
    assert_refused(scene.send(packet), "DROP_SERVICE_EMPTY", unreachable(scene, packet, quoted))


def test_an_echo_to_a_service_is_answered(scene: Scene) -> None:
    """S-29: an address of a Service has but its ports."""
    scene.serve(TCP, scene.family.b)
    packet = ip(scene.family.a, scene.vip, scene.family.icmp, echo(7) + bytes(20))
    assert_refused(scene.send(packet), "DROP_SERVICE_PORT", unreachable(scene, packet, 20))


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
def test_a_port_that_the_service_lacks(scene: Scene, protocol: int) -> None:
    """S-29: the same port of another protocol is such a one."""
    scene.serve(UDP if protocol == TCP else TCP, scene.family.b)
    packet = scene.asked.packet(protocol, FIRST[protocol])
    expected = {
        TCP: reset(scene.asked, 0, 8),
        UDP: unreachable(scene, packet, 8),
        SCTP: unreachable(scene, packet, 20),
    }
    assert_refused(scene.send(packet), "DROP_SERVICE_PORT", expected[protocol])


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
def test_no_backend_on_this_node(scene: Scene, protocol: int) -> None:
    """S-41: silence."""
    scene.apply(scene.plan(protocol, (), on_empty=OnEmpty.DROP))
    event = assert_dropped(
        scene, scene.send(scene.asked.packet(protocol, FIRST[protocol])), "DROP_SERVICE_LOCAL"
    )
    a, b = (scene.asked.source_port, scene.asked.destination_port)
    assert bytes(event.flow) == flow(scene.programs, scene.family.a, scene.vip, protocol, (a, b))
    assert event.ifindex == A_LINK


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
def test_an_unallocated_address(scene: Scene, protocol: int) -> None:
    """S-29: silence; and without ServiceCIDRs the address is nothing that we know of (S-16)."""
    ends = replace(scene.asked, destination=UNALLOCATED[scene.family.name])
    packet = ends.packet(protocol, FIRST[protocol])
    assert_dropped(scene, scene.send(packet), "DROP_SERVICE_UNALLOCATED")
    scene.table.set_cidrs(())
    assert reasons(scene.send(packet)) == [("HOOK_FROM_POD", "REASON_STACK")]


@pytest.mark.parametrize("known", [True, False])
def test_nothing_answers_an_icmp_error(scene: Scene, known: bool) -> None:
    """What it speaks of is no flow of ours."""
    family = scene.family
    scene.serve(UDP, *([family.b] if known else []))
    quoted = Ends(scene.vip, PORT, family.a, 4711).packet(UDP, DATAGRAM)
    kind = 3 if family.a.version == 4 else 1
    body = summed(family.a, scene.vip, family.icmp, icmp(kind, 3, quoted))
    assert_dropped(scene, scene.send(ip(family.a, scene.vip, family.icmp, body)), "DROP_SERVICE_FLOW")


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_of_a_packet_in_fragments_only_the_first_is_answered(scene: Scene, protocol: int) -> None:
    """RFC 1122, section 3.2.2; in the others, what looks like a header is data."""
    scene.serve(protocol)
    first, later = in_fragments(scene, protocol, scene.asked.body(protocol, FIRST[protocol] + bytes(40)))
    assert scene.send(first).action == TC_ACT_REDIRECT
    outcome = scene.send(later)
    assert outcome.action == TC_ACT_SHOT
    assert len(outcome.events) == 1


def in_fragments(scene: Scene, protocol: int, body: bytes) -> tuple[bytes, bytes]:
    a, vip, cut = scene.family.a, scene.vip, 24
    if a.version == 4:
        return (
            ip(a, vip, protocol, body[:cut], fragment=0x2000),
            ip(a, vip, protocol, body[cut:], fragment=cut // 8),
        )
    later = ipv6_fragment(protocol, body[cut:], cut // 8, more=False)
    return ip(a, vip, FRAGMENT, ipv6_fragment(protocol, body[:cut])), ip(a, vip, FRAGMENT, later)


@pytest.mark.parametrize("program", ["to_uplink", "to_overlay"])
def test_a_service_is_nobodys_out_there(scene: Scene, program: str) -> None:
    """S-29: what the host's stack sends to a Service has no socket that would have been translated."""
    packet = Ends(scene.family.node, 4711, scene.vip, PORT).packet(UDP, DATAGRAM)
    outcome = scene.programs.run(program, ethernet(GATEWAY_MAC, A_MAC, packet), UPLINK)
    assert reasons(outcome) == [(f"HOOK_{program.upper()}", "DROP_SERVICE_HOST")]
    assert outcome.action == TC_ACT_SHOT
    scene.table.set_cidrs(())
    assert reasons(scene.programs.run(program, ethernet(GATEWAY_MAC, A_MAC, packet), UPLINK)) == [
        (f"HOOK_{program.upper()}", "REASON_DELIVERED")
    ]


def test_refusals_are_not_hits(scene: Scene) -> None:
    scene.serve(TCP)
    scene.send(scene.asked.packet(TCP, FIRST[TCP]))
    scene.apply(scene.plan(TCP, backends(scene.family.b)))
    scene.send(scene.asked.packet(TCP, FIRST[TCP]))
    assert scene.hits() == [1]
