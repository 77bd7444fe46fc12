"""Packets as values: pure functions that put headers around a payload."""

from __future__ import annotations

import struct

from tulle.model.address import Address

ETH_IPV4, ETH_ARP, ETH_IPV6, ETH_LLDP = 0x0800, 0x0806, 0x86DD, 0x88CC
ICMP, TCP, UDP, FRAGMENT, ICMPV6, SCTP = 1, 6, 17, 44, 58, 132
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
MORE_FRAGMENTS = 0x2000
VXLAN_PORT = 4789


def ethernet(destination: bytes, source: bytes, payload: bytes, ethertype: int = 0) -> bytes:
    """A frame; without ``ethertype`` the one that an IP header's first byte tells."""
    known = ETH_IPV4 if payload[0] >> 4 == 4 else ETH_IPV6
    return destination + source + struct.pack("!H", ethertype or known) + payload


def ip(
    source: Address,
    destination: Address,
    protocol: int,
    payload: bytes,
    hop_limit: int = 64,
    fragment: int = 0,
) -> bytes:
    """An IP packet of the addresses' family. ``fragment``: IPv4's flags and offset, 16 bits."""
    if source.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hop_limit)
        return head + source.packed + destination.packed + payload
    ends = source.packed + destination.packed
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 1, fragment, hop_limit, protocol)
    total = checksum(head + b"\0\0" + ends)
    return head + struct.pack("!H", total) + ends + payload


def ipv6_fragment(protocol: int, payload: bytes, offset: int = 0, more: bool = True) -> bytes:
    """IPv6's fragment header; ``offset`` in units of eight bytes (RFC 8200, section 4.5)."""
    return struct.pack("!BBHI", protocol, 0, offset << 3 | more, 1) + payload


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ports(source: int, destination: int, rest: bytes = bytes(16)) -> bytes:
    """How TCP, UDP and SCTP headers begin."""
    return struct.pack("!HH", source, destination) + rest


def echo(identifier: int) -> bytes:
    """An ICMP or ICMPv6 echo request as far as it is looked at."""
    return struct.pack("!BBHHH", 8, 0, 0, identifier, 1)


def icmp_error(version: int, quoted: bytes) -> bytes:
    """An ICMP or ICMPv6 "destination unreachable" as far as it is looked at."""
    return struct.pack("!BBHI", 3 if version == 4 else 1, 0, 0, 0) + quoted


def arp(sender_mac: bytes, sender: Address, target: Address) -> bytes:
    """An ARP request (RFC 826)."""
    return struct.pack("!HHBBH", 1, ETH_IPV4, 6, 4, 1) + sender_mac + sender.packed + bytes(6) + target.packed


def vxlan(vni: int, frame: bytes) -> bytes:
    """VXLAN's header (RFC 7348, section 5) and the inner frame."""
    return struct.pack("!II", 0x08000000, vni << 8) + frame


def in_vxlan(source: Address, destination: Address, vni: int, frame: bytes, fragment: int = 0) -> bytes:
    """The outer packet over IPv4 with the inner frame."""
    return ip(source, destination, UDP, udp(40000, VXLAN_PORT, vxlan(vni, frame)), fragment=fragment)


def udp(source: int, destination: int, payload: bytes) -> bytes:
    """A datagram without checksum, as IPv4 allows (RFC 768)."""
    return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload


def out_of_vxlan(packet: bytes) -> tuple[bytes, bytes, int, bytes]:
    """(source, destination, network identifier, inner frame) of an outer packet over IPv4 that is right."""
    assert checksum(packet[:20]) == 0
    assert struct.unpack_from("!H", packet, 2) == (len(packet),)
    port, length, total = struct.unpack_from("!HHH", packet, 22)
    assert (packet[9], port, length, total) == (UDP, VXLAN_PORT, len(packet) - 20, 0)
    flags, vni = struct.unpack_from("!II", packet, 28)
    assert flags == 0x08000000
    return packet[12:16], packet[16:20], vni >> 8, packet[36:]


_CHECKSUM_AT = {TCP: 16, UDP: 6, SCTP: 8, ICMP: 2, ICMPV6: 2}


def summed(source: Address, destination: Address, protocol: int, body: bytes) -> bytes:
    """A transport header and its payload with the checksum that they should have between these two."""
    at, size = _CHECKSUM_AT[protocol], 4 if protocol == SCTP else 2
    zero = body[:at] + bytes(size) + body[at + size :]
    if protocol == SCTP:
        return body[:at] + struct.pack("<I", crc32c(zero)) + body[at + size :]
    pseudo = source.packed + destination.packed + struct.pack("!II", len(body), protocol)
    total = checksum(zero if protocol == ICMP else pseudo + zero)
    return body[:at] + struct.pack("!H", total or (0xFFFF if protocol == UDP else 0)) + body[at + size :]


def crc32c(data: bytes) -> int:
    """SCTP's checksum, bit by bit (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def tcp(source: int, destination: int, flags: int, payload: bytes = b"", seq: int = 7, ack: int = 0) -> bytes:
    """A segment without options, its checksum still to be filled in."""
    header = struct.pack("!HHIIBBHHH", source, destination, seq, ack, 0x50, flags, 64000, 0, 0)
    return header + payload


def sctp(source: int, destination: int, chunk: int, rest: bytes = bytes(16)) -> bytes:
    """One chunk, its checksum still to be filled in; INIT is 1, DATA is 0."""
    return struct.pack("!HHIIBBH", source, destination, 0, 0, chunk, 0, 4 + len(rest)) + rest


def icmp(kind: int, code: int, quoted: bytes, rest: int = 0) -> bytes:
    """An ICMP or ICMPv6 message, its checksum still to be filled in."""
    return struct.pack("!BBHI", kind, code, 0, rest) + quoted
