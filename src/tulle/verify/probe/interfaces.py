"""The addresses and the MAC addresses of this network namespace, without netlink."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path
from typing import Any

_SIOCGIFADDR = 0x8915
_SIOCGIFHWADDR = 0x8927


def interfaces() -> list[dict[str, Any]]:
    """``[{name, mac, addresses}]`` without the loopback device and link-local addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        v6 = _ipv6_addresses()
        return [
            {
                "name": name,
                "mac": _mac(control, name),
                "addresses": _ipv4_address(control, name) + v6.get(name, []),
            }
            for _, name in socket.if_nameindex()
            if name != "lo"
        ]


def _ask(control: socket.socket, request: int, name: str) -> bytes:
    return fcntl.ioctl(control, request, struct.pack("256s", name.encode()[:15]))


def _mac(control: socket.socket, name: str) -> str:
    return _ask(control, _SIOCGIFHWADDR, name)[18:24].hex(":")


def _ipv4_address(control: socket.socket, name: str) -> list[str]:
    try:
        return [socket.inet_ntoa(_ask(control, _SIOCGIFADDR, name)[20:24])]
    except OSError:
        return []


def _ipv6_addresses(table: Path = Path("/proc/net/if_inet6")) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in table.read_text().splitlines() if table.exists() else ():
        fields = line.split()
        address = ipaddress.IPv6Address(bytes.fromhex(fields[0]))
        if not address.is_link_local:
            found.setdefault(fields[-1], []).append(str(address))
    return found
