"""What leaves the host's stack: connections between Pods are remembered there, for their answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster import (
    A_LINK,
    A_MAC,
    GATEWAY_MAC,
    OVERLAY,
    OVERLAY_SOURCE_MAC,
    ROUTER_MAC,
    SHORT_CUT,
    UPLINK,
    V4,
    V6,
    Family,
    flow,
)
from packets import FRAGMENT, MORE_FRAGMENTS, TCP, UDP, echo, ethernet, ip, ipv6_fragment, ports
from programs import TC_ACT_UNSPEC, Programs

from tulle.model.address import Address

DEVICES = {"to_pod": A_LINK, "to_uplink": UPLINK, "to_overlay": OVERLAY}


def remembered(programs: Programs) -> list[bytes]:
    return list(programs.maps["flows"].keys(len(programs.contract.pack("flow"))))


def run(programs: Programs, program: str, packet: bytes, mark: int = 0) -> tuple[bytes, int]:
    outcome = programs.run(program, ethernet(ROUTER_MAC, GATEWAY_MAC, packet), DEVICES[program], mark)
    assert outcome.action == TC_ACT_UNSPEC
    assert list(outcome.counted) == [(f"HOOK_{program.upper()}", "REASON_DELIVERED")]
    return outcome.packet, outcome.mark


def rows(family: Family) -> Iterator[tuple[str, Address, Address, bool]]:
    """(program, source, destination, whether the answer is awaited)."""
    for source in (family.b, family.native, family.overlay, family.other_node):
        yield "to_pod", source, family.a, True
    for source in (family.node, family.outside):
        yield "to_pod", source, family.a, False
    for program in ("to_uplink", "to_overlay"):
        for destination in (family.native, family.overlay, family.other_node):
            yield program, family.a, destination, True
        for destination in (family.outside, family.nobody):
            yield program, family.a, destination, False
        for source in (family.node, family.outside, family.nobody):
            yield program, source, family.native, False


TABLE = [pytest.param(f, *row, id=f"{row[0]}: {row[1]} to {row[2]}") for f in (V4, V6) for row in rows(f)]


@pytest.mark.parametrize(("family", "program", "source", "destination", "awaited"), TABLE)
def test_answer_is_awaited(
    programs: Programs, family: Family, program: str, source: Address, destination: Address, awaited: bool
) -> None:
    run(programs, program, ip(source, destination, TCP, ports(40000, 80)))
    answer = flow(programs, destination, source, TCP, (80, 40000))
    assert remembered(programs) == ([answer] if awaited else [])


@pytest.mark.parametrize("family", [V4, V6], ids=str)
def test_answer_to_an_echo_has_the_same_identifier(programs: Programs, family: Family) -> None:
    run(programs, "to_uplink", ip(family.a, family.native, family.icmp, echo(7)))
    assert remembered(programs) == [flow(programs, family.native, family.a, family.icmp, (7, 7))]


def test_fragments_are_not_remembered(programs: Programs) -> None:
    run(programs, "to_uplink", ip(V4.a, V4.native, UDP, ports(1, 2), fragment=MORE_FRAGMENTS))
    run(programs, "to_uplink", ip(V6.a, V6.native, FRAGMENT, ipv6_fragment(UDP, ports(1, 2))))
    assert remembered(programs) == []


@pytest.mark.parametrize("program", ["to_uplink", "to_overlay"])
def test_short_cut_passes(programs: Programs, program: str) -> None:
    """The mark is ours alone: it is gone before anybody else sees it, and nothing is remembered."""
    packet = ip(V4.a, V4.native, TCP, ports(1, 2))
    assert run(programs, program, packet, SHORT_CUT) == (ethernet(ROUTER_MAC, GATEWAY_MAC, packet), 0)
    assert remembered(programs) == []


@pytest.mark.parametrize("program", ["to_uplink", "to_overlay"])
def test_marks_of_others_stay(programs: Programs, program: str) -> None:
    _, mark = run(programs, program, ip(V4.a, V4.native, TCP, ports(1, 2)), 0x4000)
    assert mark == 0x4000


def test_macs_in_the_overlay(programs: Programs) -> None:
    """The stack puts the device's own MAC in as source, which the other end would take for a loop."""
    packet = ip(V4.a, V4.overlay, TCP, ports(1, 2))
    after, _ = run(programs, "to_overlay", packet)
    assert after == ethernet(GATEWAY_MAC, OVERLAY_SOURCE_MAC, packet)
    after, _ = run(programs, "to_uplink", packet)
    assert after == ethernet(ROUTER_MAC, GATEWAY_MAC, packet)


@pytest.mark.parametrize("family", [V4, V6], ids=str)
def test_forward_and_reply(programs: Programs, family: Family) -> None:
    """A connection that the stack forwards into a Pod: its answer leaves the Pod by the stack, too."""
    run(programs, "to_pod", ip(family.native, family.a, TCP, ports(40000, 80)))
    answer = ethernet(GATEWAY_MAC, A_MAC, ip(family.a, family.native, TCP, ports(80, 40000)))
    assert list(programs.run("from_pod", answer, A_LINK).counted) == [("HOOK_FROM_POD", "REASON_STACK_FLOW")]
