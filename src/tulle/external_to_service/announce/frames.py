"""The frames by which a node says, unasked, that it answers for an address now."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Final

from tulle.model.address import Address

ETH_ARP: Final = 0x0806
ETH_IPV6: Final = 0x86DD
BROADCAST: Final = b"\xff" * 6
ALL_NODES: Final = IPv6Address("ff02::1")
_ALL_NODES_MAC: Final = bytes.fromhex("333300000001")
_SOLICITED_NODE: Final = int(IPv6Address("ff02::1:ff00:0"))
_REQUEST, _REPLY = 1, 2
_ICMPV6: Final = 58
_ADVERTISEMENT: Final = 136
_OVERRIDE: Final = 0x20000000
_TARGET_MAC: Final = 2


def gratuitous(address: Address, mac: bytes) -> list[bytes]:
    """IPv4: ARP in both forms, as some listen to one only (RFC 5227, section 3). IPv6: an advertisement to
    all nodes (RFC 4861, section 7.2.6).
    """
    if isinstance(address, IPv6Address):
        return [_advertisement(address, mac)]
    return [_arp(address.packed, mac, _REQUEST, bytes(6)), _arp(address.packed, mac, _REPLY, BROADCAST)]


def _arp(address: bytes, mac: bytes, operation: int, target_mac: bytes) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return _ethernet(BROADCAST, mac, ETH_ARP) + head + mac + address + target_mac + address


def _advertisement(address: IPv6Address, mac: bytes) -> bytes:
    def message(total: int) -> bytes:
        head = struct.pack("!BBHI", _ADVERTISEMENT, 0, total, _OVERRIDE)
        return head + address.packed + bytes([_TARGET_MAC, 1]) + mac

    ends = address.packed + ALL_NODES.packed
    length = len(message(0))
    total = _checksum(ends + struct.pack("!II", length, _ICMPV6) + message(0))
    ip = struct.pack("!IHBB", 6 << 28, length, _ICMPV6, 255) + ends
    return _ethernet(_ALL_NODES_MAC, mac, ETH_IPV6) + ip + message(total)


def _ethernet(destination: bytes, source: bytes, ethertype: int) -> bytes:
    return destination + source + struct.pack("!H", ethertype)


def _checksum(data: bytes) -> int:
    """RFC 1071; ``data`` has an even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The group in which somebody asks for the address (RFC 4291, section 2.7.1)."""
    return IPv6Address(_SOLICITED_NODE | int(address) & 0xFFFFFF)
