"""ICMP errors and fragments of translated flows, there and back (S-68, S-69)."""

from __future__ import annotations

import struct

import pytest
from cluster import A_MAC, B_MAC, GATEWAY_MAC, Family
from packets import FRAGMENT, SCTP, SYN, TCP, UDP, ethernet, icmp, ip, ipv6_fragment, sctp, summed, tcp
from programs import TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC
from service_scene import Ends, Scene, reasons

from tulle.model.address import Address

DATAGRAM = struct.pack("!HH", 30, 0) + bytes(range(22))
RESTS = {TCP: tcp(0, 0, SYN, b"some data")[4:], UDP: DATAGRAM, SCTP: sctp(0, 0, 1)[4:]}
ERRORS = {
    4: {
        "unreachable": (3, 3, 0),
        "too big": (3, 4, 1400),
        "time exceeded": (11, 0, 0),
        "parameter": (12, 0, 0),
    },
    6: {
        "unreachable": (1, 4, 0),
        "too big": (2, 0, 1400),
        "time exceeded": (3, 0, 0),
        "parameter": (4, 0, 6),
    },
}


def error(
    family: Family, what: str, source: Address, destination: Address, quoted: bytes, hop_limit: int = 64
) -> bytes:
    kind, code, rest = ERRORS[family.a.version][what]
    body = summed(source, destination, family.icmp, icmp(kind, code, quoted, rest))
    return ip(source, destination, family.icmp, body, hop_limit)


def quotation(ends: Ends, protocol: int, length: int, as_sent: Ends | None = None) -> bytes:
    """The beginning of a packet. Nobody checks the transport's checksum in it: it stays as it was sent."""
    whole = ends.packet(protocol, RESTS[protocol], 60)
    header = len(whole) - len(ends.body(protocol, RESTS[protocol]))
    body = (as_sent or ends).body(protocol, RESTS[protocol])
    return (whole[: header + 4] + body[4:])[: header + length]


CASES = pytest.mark.parametrize(
    ("protocol", "length"), [(TCP, 8), (TCP, 29), (UDP, 8), (UDP, 30), (SCTP, 8), (SCTP, 32)]
)
WHAT = pytest.mark.parametrize("what", ERRORS[4])


@CASES
@WHAT
@pytest.mark.parametrize("place", ["b", "native", "overlay", "node"])
def test_a_backend_complains(scene: Scene, what: str, protocol: int, length: int, place: str) -> None:
    """The client knows the Service only: it complains, of what the client sent to it."""
    family, backend = scene.family, getattr(scene.family, place)
    scene.serve(protocol, backend)
    scene.send(scene.asked.packet(protocol, RESTS[protocol]))
    quoted = quotation(scene.given(backend), protocol, length)
    outcome = scene.answer(backend, error(family, what, backend, family.a, quoted))
    quoted = quotation(scene.asked, protocol, length, scene.given(backend))
    expected = error(family, what, scene.vip, family.a, quoted, 64 if place == "node" else 63)
    assert outcome.packet.hex() == ethernet(A_MAC, GATEWAY_MAC, expected).hex()
    assert outcome.action == (TC_ACT_UNSPEC if place == "node" else TC_ACT_REDIRECT)


@CASES
@WHAT
@pytest.mark.parametrize("place", ["native", "outside"])
def test_a_router_complains(scene: Scene, what: str, protocol: int, length: int, place: str) -> None:
    """By itself, of what the client sent to the Service. N-20: so the path's MTU gets to the client."""
    family, router = scene.family, scene.family.outside
    backend: Address = getattr(family, place)
    scene.serve(protocol, backend)
    scene.send(scene.asked.packet(protocol, RESTS[protocol]))
    quoted = quotation(scene.given(backend), protocol, length)
    if place == "outside":
        router = family.node  # as masquerading would have it
    outcome = scene.answer(router, error(family, what, router, family.a, quoted))
    quoted = quotation(scene.asked, protocol, length, scene.given(backend))
    expected = error(family, what, router, family.a, quoted)
    assert outcome.packet.hex() == ethernet(A_MAC, GATEWAY_MAC, expected).hex()
    assert reasons(outcome) == [("HOOK_TO_POD", "REASON_DELIVERED")]


@CASES
@WHAT
def test_a_client_complains(scene: Scene, what: str, protocol: int, length: int) -> None:
    """Of an answer that the Service gave: the backend knows only what it sent itself."""
    family, backend = scene.family, scene.family.b
    scene.serve(protocol, backend)
    scene.send(scene.asked.packet(protocol, RESTS[protocol]))
    quoted = quotation(scene.asked.back, protocol, length)
    outcome = scene.send(error(family, what, family.a, scene.vip, quoted))
    quoted = quotation(scene.given(backend).back, protocol, length, scene.asked.back)
    expected = error(family, what, family.a, backend, quoted, 63)
    assert outcome.packet.hex() == ethernet(B_MAC, GATEWAY_MAC, expected).hex()


@CASES
@WHAT
def test_a_pod_complains_to_itself(scene: Scene, what: str, protocol: int, length: int) -> None:
    """N-09: as backend of what it sent as client."""
    family = scene.family
    scene.serve(protocol, family.a)
    scene.send(scene.asked.packet(protocol, RESTS[protocol]))
    quoted = quotation(scene.given(family.a), protocol, length)
    outcome = scene.send(error(family, what, family.a, scene.vip, quoted))
    quoted = quotation(scene.asked, protocol, length, scene.given(family.a))
    expected = error(family, what, scene.vip, family.a, quoted, 63)
    assert outcome.packet.hex() == ethernet(A_MAC, GATEWAY_MAC, expected).hex()


def test_an_error_about_another_flow_stays_as_it_is(scene: Scene) -> None:
    family = scene.family
    scene.serve(UDP, family.native)
    scene.send(scene.asked.packet(UDP, DATAGRAM))
    other = Ends(family.a, 4711, family.native, 8080)
    complaint = error(family, "unreachable", family.native, family.a, quotation(other, UDP, 8))
    outcome = scene.answer(family.native, complaint)
    expected = error(family, "unreachable", family.native, family.a, quotation(other, UDP, 8), 63)
    assert outcome.packet.hex() == ethernet(A_MAC, GATEWAY_MAC, expected).hex()


def pieces(ends: Ends, rest: bytes, hop_limit: int = 64, as_sent: Ends | None = None) -> list[bytes]:
    """A datagram in fragments of 24 bytes, with the checksum of ``ends`` and, it may be, other ends."""
    body, to = ends.body(UDP, rest), as_sent or ends
    parts = [body[i : i + 24] for i in range(0, len(body), 24)]
    made = []
    for i, part in enumerate(parts):
        more = i < len(parts) - 1
        if to.source.version == 4:
            field = (0x2000 if more else 0) | i * 3
            made.append(ip(to.source, to.destination, UDP, part, hop_limit, field))
        else:
            piece = ipv6_fragment(UDP, part, i * 3, more)
            made.append(ip(to.source, to.destination, FRAGMENT, piece, hop_limit))
    return made


LONG = struct.pack("!HH", 68, 0) + bytes(range(60))


def test_fragments_find_the_backend_of_their_first(scene: Scene) -> None:
    """S-69: the first has the ports, and the checksum of them all."""
    backend = scene.family.native
    scene.serve(UDP, backend, scene.family.routed)
    scene.serve(UDP, backend)
    for sent, expected in zip(pieces(scene.asked, LONG), pieces(scene.given(backend), LONG, 63), strict=True):
        outcome = scene.send(sent)
        assert reasons(outcome) == [("HOOK_FROM_POD", "REASON_NATIVE")]
        assert outcome.packet[14:].hex() == expected.hex()
    assert scene.hits() == [1]


@pytest.mark.parametrize("place", ["b", "native", "overlay", "node", "a"])
def test_an_answer_in_fragments(scene: Scene, place: str) -> None:
    backend: Address = getattr(scene.family, place)
    scene.serve(UDP, backend)
    scene.send(scene.asked.packet(UDP, DATAGRAM))
    hop_limit = 64 if place == "node" else 63
    answers = pieces(scene.given(backend).back, LONG), pieces(scene.asked.back, LONG, hop_limit)
    for sent, expected in zip(*answers, strict=True):
        outcome = scene.answer(backend, sent)
        assert outcome.packet.hex() == ethernet(A_MAC, GATEWAY_MAC, expected).hex()


def test_a_fragment_whose_first_was_not_here(scene: Scene) -> None:
    """S-69: to a Service nobody knows where it belongs; everywhere else the host's stack may."""
    scene.serve(UDP, scene.family.native)
    outcome = scene.send(pieces(scene.asked, LONG)[1])
    assert reasons(outcome) == [("HOOK_FROM_POD", "DROP_SERVICE_FRAGMENT")]
    assert outcome.action == TC_ACT_SHOT
    assert len(outcome.events) == 1
    outcome = scene.answer(scene.family.native, pieces(scene.given(scene.family.native).back, LONG)[1])
    assert reasons(outcome) == [("HOOK_FROM_UPLINK", "REASON_FRAGMENT")]
    assert outcome.action == TC_ACT_UNSPEC


def test_a_later_fragment_is_no_icmp_error(scene: Scene) -> None:
    """Though its data may look like one: that of a long echo is anything."""
    family = scene.family
    scene.serve(UDP, family.b)
    scene.send(scene.asked.packet(UDP, DATAGRAM))
    quoted = quotation(scene.given(family.b), UDP, 8)
    data = error(family, "unreachable", family.b, family.a, quoted)[20 if family.a.version == 4 else 40 :]
    if family.a.version == 4:
        packet = ip(family.b, family.a, family.icmp, data, fragment=100)
    else:
        packet = ip(family.b, family.a, FRAGMENT, ipv6_fragment(family.icmp, data, 100, more=False))
    outcome = scene.answer(family.b, packet)
    assert reasons(outcome) == [("HOOK_FROM_POD", "REASON_FRAGMENT")]
    assert outcome.packet[14:].hex() == packet.hex()


def test_fragments_of_another_packet_are_not_mixed_up(scene: Scene) -> None:
    """Identification, ends and protocol tell packets apart."""
    scene.serve(UDP, scene.family.native)
    first, *_ = pieces(scene.asked, LONG)
    scene.send(first)
    other = Ends(scene.family.a, 1, scene.family.native, 2)
    assert reasons(scene.send(pieces(other, LONG)[1])) == [("HOOK_FROM_POD", "REASON_FRAGMENT")]
