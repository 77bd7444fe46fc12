"""ARP and neighbour discovery for what this node answers for: which questions, how, and until when."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest
from cluster import OVERLAY, UPLINK
from packets import ETH_ARP, ETH_IPV4, ICMPV6, checksum, ethernet, ip, ipv6_fragment, summed
from programs import TC_ACT_REDIRECT, TC_ACT_UNSPEC, Outcome, Programs

from tulle.kernel import netns
from tulle.kernel.netlink import Netlink
from tulle.kernel.rtnetlink import links
from tulle.model.address import Address, to_bytes

VIP4, VIP6 = ip_address("192.168.0.200"), ip_address("fd00::c8")
ASKER4, ASKER6 = ip_address("192.168.0.77"), ip_address("fe80::77")
OTHER4, OTHER6 = ip_address("192.168.0.201"), ip_address("fd00::1:c8")  # the same group as VIP6
NOBODY4, NOBODY6 = ip_address("0.0.0.0"), ip_address("::")
SOLICITED_NODE, ALL_NODES = ip_address("ff02::1:ff00:c8"), ip_address("ff02::1")
OWN_MAC, ASKER_MAC = bytes.fromhex("0a0000000111"), bytes.fromhex("0a0000000077")
BROADCAST, ALL_NODES_MAC = b"\xff" * 6, bytes.fromhex("333300000001")
GROUP_MAC = bytes.fromhex("3333ff0000c8")
OPTION_SOURCE, OPTION_TARGET, OPTION_NONCE = 1, 2, 14
Announce = Callable[..., None]


@pytest.fixture
def announce(programs: Programs) -> Iterator[Announce]:
    """``announce(address, seconds, ifindex)``: answered for that long from now."""
    table, contract = programs.maps["announcements"], programs.contract

    def write(address: Address, seconds: float = 60, ifindex: int = UPLINK) -> None:
        until = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(seconds * 1e9)
        key = contract.pack("announcement_key", address=to_bytes(address), ifindex=ifindex)
        table[key] = contract.pack("announcement", until=until, mac=OWN_MAC)

    try:
        yield write
    finally:
        for key in list(table.keys(contract.layout("announcement_key").size)):
            table.discard(key)


@pytest.fixture
def device_mac(programs: Programs) -> bytes:
    with netns.entered(programs.home), Netlink() as netlink:
        return next(link.mac for link in links(netlink) if link.index == UPLINK)


@dataclass(frozen=True)
class Arp:
    """An ARP packet over Ethernet (RFC 826), and the frame around it."""

    target: Address = VIP4
    sender: Address = ASKER4
    sender_mac: bytes = ASKER_MAC
    target_mac: bytes = bytes(6)
    operation: int = 1
    head: tuple[int, int, int, int] = (1, ETH_IPV4, 6, 4)

    def frame(self, destination: bytes = BROADCAST, source: bytes = ASKER_MAC) -> bytes:
        ends = self.sender_mac + self.sender.packed + self.target_mac + self.target.packed
        packet = struct.pack("!HHBBH", *self.head, self.operation) + ends
        return ethernet(destination, source, packet, ETH_ARP)


def option(kind: int, value: bytes = ASKER_MAC, length: int = 1) -> bytes:
    return bytes([kind, length]) + value


@dataclass(frozen=True)
class Solicitation:
    """A neighbour solicitation (RFC 4861, section 4.3)."""

    target: Address = VIP6
    source: Address = ASKER6
    destination: Address = SOLICITED_NODE
    options: bytes = option(OPTION_SOURCE)
    hop_limit: int = 255
    kind: int = 135
    code: int = 0
    broken: int = 0  # added to the checksum

    def message(self) -> bytes:
        raw = struct.pack("!BBHI", self.kind, self.code, 0, 0) + self.target.packed + self.options
        right = summed(self.source, self.destination, ICMPV6, raw)
        total = struct.unpack_from("!H", right, 2)[0]
        return right[:2] + struct.pack("!H", total + self.broken & 0xFFFF) + right[4:]

    def packet(self) -> bytes:
        return ip(self.source, self.destination, ICMPV6, self.message(), self.hop_limit)

    def frame(self, destination: bytes = GROUP_MAC, source: bytes = ASKER_MAC) -> bytes:
        return ethernet(destination, source, self.packet())


def ask(programs: Programs, frame: bytes, ifindex: int = UPLINK) -> Outcome:
    return programs.run("from_uplink", frame, ifindex)


def assert_answered(outcome: Outcome, frame: bytes) -> None:
    assert list(outcome.counted) == [("HOOK_FROM_UPLINK", "REASON_ANNOUNCED")]
    assert outcome.action == TC_ACT_REDIRECT
    assert outcome.packet.hex() == frame.hex()


def assert_left(outcome: Outcome, frame: bytes) -> None:
    """To the host's stack, as it came."""
    assert list(outcome.counted) == [("HOOK_FROM_UPLINK", "REASON_STACK")]
    assert (outcome.action, outcome.packet) == (TC_ACT_UNSPEC, frame)


def advertised(destination: Address, mac: bytes, solicited: bool) -> bytes:
    """The frame of the advertisement that is right: flags S and O (RFC 4861, section 4.4)."""
    flags = (0x40000000 if solicited else 0) | 0x20000000
    body = struct.pack("!BBHI", 136, 0, 0, flags) + VIP6.packed + option(OPTION_TARGET, OWN_MAC)
    body = summed(VIP6, destination, ICMPV6, body)
    return ethernet(mac, OWN_MAC, ip(VIP6, destination, ICMPV6, body, 255))


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(Arp(), id="request"),
        pytest.param(Arp(sender=NOBODY4), id="probe (RFC 5227)"),
        pytest.param(Arp(sender=VIP4), id="somebody else claims it"),
        pytest.param(Arp(target_mac=BROADCAST), id="target's MAC not empty"),
    ],
)
def test_arp_is_answered(programs: Programs, announce: Announce, asked: Arp) -> None:
    announce(VIP4)
    answer = replace(
        asked,
        operation=2,
        sender=VIP4,
        sender_mac=OWN_MAC,
        target=asked.sender,
        target_mac=ASKER_MAC,
    )
    assert_answered(ask(programs, asked.frame()), answer.frame(ASKER_MAC, OWN_MAC))


def test_arp_by_unicast_and_with_padding(programs: Programs, announce: Announce, device_mac: bytes) -> None:
    """As a neighbour is asked again that is known already; and Ethernet frames have 60 bytes at least."""
    announce(VIP4)
    answer = Arp(ASKER4, VIP4, OWN_MAC, ASKER_MAC, 2).frame(ASKER_MAC, OWN_MAC)
    assert_answered(ask(programs, Arp().frame(device_mac)), answer)
    assert_answered(ask(programs, Arp().frame() + bytes(18)), answer + bytes(18))


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(Arp(target=OTHER4), id="another address"),
        pytest.param(Arp(operation=2), id="a reply"),
        pytest.param(Arp(sender_mac=BROADCAST), id="a group as sender"),
        pytest.param(Arp(head=(6, ETH_IPV4, 6, 4)), id="another link layer"),
        pytest.param(Arp(head=(1, 0x86DD, 6, 4)), id="another protocol"),
        pytest.param(Arp(head=(1, ETH_IPV4, 8, 4)), id="longer MACs"),
        pytest.param(Arp(head=(1, ETH_IPV4, 6, 16)), id="longer addresses"),
    ],
)
def test_arp_is_left(programs: Programs, announce: Announce, asked: Arp) -> None:
    announce(VIP4)
    assert_left(ask(programs, asked.frame()), asked.frame())


@pytest.mark.parametrize("size", [14, 20, 41])
def test_arp_that_is_cut_off(programs: Programs, announce: Announce, size: int) -> None:
    announce(VIP4)
    frame = Arp().frame()[:size]
    assert_left(ask(programs, frame), frame)


@pytest.mark.parametrize("question", [Arp(), Solicitation()], ids=["ARP", "NDP"])
def test_only_until_the_lease_ends_and_on_its_link(
    programs: Programs, announce: Announce, question: Arp | Solicitation
) -> None:
    frame, vip = question.frame(), VIP4 if isinstance(question, Arp) else VIP6
    assert_left(ask(programs, frame), frame)
    announce(vip, seconds=-0.001)
    assert_left(ask(programs, frame), frame)
    announce(vip)
    assert ask(programs, frame).action == TC_ACT_REDIRECT
    assert_left(ask(programs, frame, OVERLAY), frame)
    announce(vip, seconds=-0.001)
    assert_left(ask(programs, frame), frame)


@pytest.mark.parametrize("question", [Arp(), Solicitation()], ids=["ARP", "NDP"])
def test_what_is_for_another_mac(
    programs: Programs, announce: Announce, question: Arp | Solicitation
) -> None:
    """A device that takes everything sees what its neighbours are asked, too."""
    announce(VIP4)
    announce(VIP6)
    frame = question.frame(bytes.fromhex("0a0000000222"))
    assert_left(ask(programs, frame), frame)


NONCE = option(OPTION_NONCE, b"nonce!")


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(Solicitation(), id="multicast"),
        pytest.param(Solicitation(options=option(OPTION_SOURCE) + NONCE), id="with a nonce"),
        pytest.param(Solicitation(options=NONCE * 4), id="options and no MAC"),
        pytest.param(Solicitation(source=ip_address("fd00::77")), id="from a global address"),
    ],
)
def test_solicitation_is_answered(programs: Programs, announce: Announce, asked: Solicitation) -> None:
    announce(VIP6)
    assert_answered(ask(programs, asked.frame()), advertised(asked.source, ASKER_MAC, solicited=True))


def test_unicast_solicitation(programs: Programs, announce: Announce, device_mac: bytes) -> None:
    """As a neighbour is asked whether it is still there; it may come without the asker's MAC."""
    announce(VIP6)
    asked = Solicitation(destination=VIP6, options=b"")
    assert_answered(ask(programs, asked.frame(device_mac)), advertised(ASKER6, ASKER_MAC, solicited=True))


def test_the_mac_that_the_asker_names_counts(programs: Programs, announce: Announce) -> None:
    announce(VIP6)
    asked = Solicitation(options=option(OPTION_SOURCE, bytes.fromhex("0a0000000078")))
    answer = advertised(ASKER6, bytes.fromhex("0a0000000078"), solicited=True)
    assert_answered(ask(programs, asked.frame()), answer)


@pytest.mark.parametrize("options", [b"", NONCE], ids=["bare", "with a nonce (RFC 7527)"])
def test_probe_for_a_duplicate(programs: Programs, announce: Announce, options: bytes) -> None:
    """RFC 4862, section 5.4.3: all nodes are told, and the answer is to nobody's question."""
    announce(VIP6)
    asked = Solicitation(source=NOBODY6, options=options)
    answer = advertised(ALL_NODES, ALL_NODES_MAC, solicited=False)
    assert_answered(ask(programs, asked.frame()), answer)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(Solicitation(target=OTHER6), id="another address of the group"),
        pytest.param(Solicitation(target=SOLICITED_NODE), id="a group"),
        pytest.param(Solicitation(hop_limit=254), id="from behind a router"),
        pytest.param(Solicitation(code=1), id="another code"),
        pytest.param(Solicitation(kind=136), id="an advertisement"),
        pytest.param(Solicitation(broken=1), id="wrong checksum"),
        pytest.param(Solicitation(options=option(OPTION_SOURCE, length=0)), id="option of no length"),
        pytest.param(Solicitation(options=option(OPTION_SOURCE, length=2)), id="option beyond the end"),
        pytest.param(Solicitation(options=b"\x01\x01" + bytes(5)), id="half an option"),
        pytest.param(Solicitation(options=NONCE * 5), id="more options than anybody sends"),
        pytest.param(Solicitation(options=option(OPTION_SOURCE, GROUP_MAC)), id="a group as asker"),
        pytest.param(Solicitation(source=NOBODY6), id="probe with a MAC"),
        pytest.param(Solicitation(source=NOBODY6, destination=VIP6, options=b""), id="probe by unicast"),
        pytest.param(Solicitation(source=NOBODY6, destination=ALL_NODES, options=b""), id="probe to all"),
    ],
)
def test_solicitation_is_left(programs: Programs, announce: Announce, asked: Solicitation) -> None:
    for address in (VIP6, SOLICITED_NODE):
        announce(address)
    assert_left(ask(programs, asked.frame()), asked.frame())


def test_solicitation_that_is_cut_off_or_in_fragments(programs: Programs, announce: Announce) -> None:
    """RFC 6980: nobody may send it in fragments."""
    announce(VIP6)
    asked = Solicitation()
    fragment = ip(asked.source, asked.destination, 44, ipv6_fragment(ICMPV6, asked.message()), 255)
    for frame in (asked.frame()[:70], asked.frame()[:-1], ethernet(GROUP_MAC, ASKER_MAC, fragment)):
        assert_left(ask(programs, frame), frame)


def test_what_else_comes_for_the_address(programs: Programs, announce: Announce) -> None:
    """Only questions become answers."""
    announce(VIP4)
    announce(VIP6)
    echo = summed(ASKER6, VIP6, ICMPV6, struct.pack("!BBHI", 128, 0, 0, 1))
    for packet in (ip(ASKER6, VIP6, ICMPV6, echo, 255), ip(ASKER4, VIP4, 1, bytes(8), 255)):
        frame = ethernet(BROADCAST, ASKER_MAC, packet)
        outcome = ask(programs, frame)
        assert (outcome.action, outcome.packet) == (TC_ACT_UNSPEC, frame)


def test_the_checksums_here_are_right() -> None:
    """Of the frames that answers are compared with."""
    frame = advertised(ASKER6, ASKER_MAC, solicited=True)
    pseudo = VIP6.packed + ASKER6.packed + struct.pack("!II", 32, ICMPV6)
    assert checksum(pseudo + frame[54:]) == 0
