"""Links, addresses, routes and neighbours: requests to change them, and what the kernel has.

Requests are values (``netlink.Request``) that ``Netlink.send`` carries out; the numbers are those of
``linux/rtnetlink.h``, ``if_link.h``, ``if_addr.h``, ``neighbour.h`` and ``lwtunnel.h``.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

from tulle.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    parse_attributes,
)
from tulle.model.address import Address, Interface, Network

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH = 28
RTMGRP_LINK: Final = 0x1
RTMGRP_ADDRESSES: Final = 0x10 | 0x100  # IPv4 and IPv6

IFF_UP: Final = 0x1
IFF_NOARP: Final = 0x80
ARPHRD_ETHER: Final = 1

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_IFALIAS = 1, 3, 4, 18, 20
IFLA_AF_SPEC, IFLA_NET_NS_FD = 26, 28
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
VETH_INFO_PEER: Final = 1
IFLA_VXLAN_PORT, IFLA_VXLAN_COLLECT_METADATA = 15, 25
IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 8, 1

IFA_ADDRESS, IFA_LOCAL = 1, 2
IFA_F_NODAD: Final = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 7, 15
RTA_ENCAP_TYPE, RTA_ENCAP = 21, 22
RTN_UNICAST: Final = 1
RTN_UNREACHABLE: Final = 7
RTNH_F_ONLINK: Final = 4
RT_TABLE_MAIN: Final = 254
LWTUNNEL_ENCAP_IP, LWTUNNEL_ENCAP_IP6 = 2, 4
LWTUNNEL_IP_ID, LWTUNNEL_IP_DST, LWTUNNEL_IP_SRC, LWTUNNEL_IP_FLAGS = 1, 2, 3, 6
TUNNEL_CSUM: Final = 1
NDA_DST, NDA_LLADDR = 1, 2
NUD_PERMANENT: Final = 0x80

SCOPE_UNIVERSE: Final = 0
SCOPE_LINK: Final = 253
PROTO_BOOT: Final = 3
PROTO_TULLE: Final = 84
"""Our mark on routes (``proto 84``): the reconciler touches no others."""

_LINK = struct.Struct("=BBHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BBHiHBB")


@dataclass(frozen=True, slots=True)
class Link:
    """A network device. ``mac`` is empty where it has none; ``kind`` is ``veth``, ``vxlan``, …

    ``port`` is the UDP port of a VXLAN device, 0 for others.
    """

    index: int
    name: str
    mtu: int
    mac: bytes
    flags: int
    hardware: int
    kind: str
    alias: str
    port: int = 0


@dataclass(frozen=True, slots=True)
class Encap:
    """The outer header that a route puts on: VXLAN network identifier, both nodes' addresses."""

    vni: int
    remote: Address
    source: Address


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table; ``oif`` is the device's index, or 0: the destination is unreachable."""

    destination: Network
    oif: int = 0
    gateway: Address | None = None
    source: Address | None = None
    encap: Encap | None = None
    scope: int = SCOPE_UNIVERSE
    protocol: int = PROTO_TULLE
    onlink: bool = False


def family(address: Address | Interface | Network) -> int:
    """``AF_INET`` or ``AF_INET6``."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def format_mac(mac: bytes) -> str:
    return mac.hex(":")


def _link_body(index: int, attributes: bytes = b"", flags: int = 0, change: int = 0) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, 0, index, flags, change) + attributes


def add_veth(name: str, mac: bytes, peer: str, peer_mac: bytes, peer_netns: int, mtu: int) -> Request:
    """A veth pair: ``name`` here, ``peer`` in the namespace behind the descriptor ``peer_netns``."""
    other = (
        attribute(IFLA_IFNAME, peer)
        + attribute(IFLA_ADDRESS, peer_mac)
        + attribute(IFLA_MTU, mtu)
        + attribute(IFLA_NET_NS_FD, peer_netns)
    )
    info = attribute(IFLA_INFO_KIND, "veth") + attribute(
        IFLA_INFO_DATA, attribute(VETH_INFO_PEER, _link_body(0, other))
    )
    body = (
        attribute(IFLA_IFNAME, name)
        + attribute(IFLA_ADDRESS, mac)
        + attribute(IFLA_MTU, mtu)
        + attribute(IFLA_LINKINFO, info)
    )
    what = f"create the veth pair {name} and {peer}"
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _link_body(0, body), what)


def add_vxlan(name: str, mac: bytes, mtu: int, port: int) -> Request:
    """A VXLAN device that takes each packet's outer header from its route or from eBPF.

    Without ARP, and with the same ``mac`` on all nodes: an inner frame then always carries the right
    destination, and no neighbour entry is needed for it.
    """
    data = attribute(IFLA_VXLAN_COLLECT_METADATA, b"\1") + attribute(IFLA_VXLAN_PORT, struct.pack("!H", port))
    info = attribute(IFLA_INFO_KIND, "vxlan") + attribute(IFLA_INFO_DATA, data)
    body = (
        attribute(IFLA_IFNAME, name)
        + attribute(IFLA_ADDRESS, mac)
        + attribute(IFLA_MTU, mtu)
        + attribute(IFLA_LINKINFO, info)
    )
    link = _link_body(0, body, IFF_NOARP, IFF_NOARP)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, link, f"create the VXLAN device {name}")


def set_up(index: int) -> Request:
    return Request(RTM_NEWLINK, 0, _link_body(index, b"", IFF_UP, IFF_UP), f"bring up link {index}")


def set_alias(index: int, alias: str) -> Request:
    """A text for people, of at most 255 bytes; the kernel takes none from the request that makes a link."""
    body = _link_body(index, attribute(IFLA_IFALIAS, alias))
    return Request(RTM_NEWLINK, 0, body, f"set the alias of link {index}")


def leave_link_local_to_us(index: int) -> Request:
    """The kernel makes no link-local address of its own: its duplicate check would hold the link back."""
    mode = attribute(IFLA_INET6_ADDR_GEN_MODE, struct.pack("=B", IN6_ADDR_GEN_MODE_NONE))
    body = attribute(IFLA_AF_SPEC, attribute(socket.AF_INET6, mode))
    return Request(RTM_NEWLINK, 0, _link_body(index, body), f"set the address mode of link {index}")


def set_mtu(index: int, mtu: int) -> Request:
    return Request(
        RTM_NEWLINK, 0, _link_body(index, attribute(IFLA_MTU, mtu)), f"set MTU {mtu} of link {index}"
    )


def delete_link(name: str) -> Request:
    return Request(RTM_DELLINK, 0, _link_body(0, attribute(IFLA_IFNAME, name)), f"delete link {name}")


def add_address(index: int, address: Interface, scope: int = SCOPE_UNIVERSE) -> Request:
    """Adds an address without duplicate address detection: it is usable at once."""
    head = _ADDRESS.pack(family(address), address.network.prefixlen, IFA_F_NODAD, scope, index)
    body = head + attribute(IFA_LOCAL, address.ip) + attribute(IFA_ADDRESS, address.ip)
    return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body, f"add address {address} to link {index}")


def delete_address(index: int, address: Interface) -> Request:
    head = _ADDRESS.pack(family(address), address.network.prefixlen, 0, 0, index)
    body = head + attribute(IFA_LOCAL, address.ip)
    return Request(RTM_DELADDR, 0, body, f"delete address {address} of link {index}")


def address_scope(body: bytes) -> int:
    """The scope of the address that an ``RTM_NEWADDR`` or ``RTM_DELADDR`` message speaks of."""
    _, _, _, scope, _ = _ADDRESS.unpack_from(body)
    return int(scope)


def _route_body(route: Route) -> bytes:
    destination = route.destination
    flags = RTNH_F_ONLINK if route.onlink else 0
    body = _ROUTE.pack(
        family(destination),
        destination.prefixlen,
        0,
        0,
        RT_TABLE_MAIN,
        route.protocol,
        route.scope,
        RTN_UNICAST if route.oif else RTN_UNREACHABLE,
        flags,
    )
    body += attribute(RTA_DST, destination.network_address)
    if route.oif:
        body += attribute(RTA_OIF, route.oif)
    if route.gateway:
        body += attribute(RTA_GATEWAY, route.gateway)
    if route.source:
        body += attribute(RTA_PREFSRC, route.source)
    if route.encap:
        body += _encap(route.encap)
    return body


def _encap(encap: Encap) -> bytes:
    """With a UDP checksum over IPv6, without which a receiver drops it."""
    header = attribute(LWTUNNEL_IP_ID, struct.pack("!Q", encap.vni))
    header += attribute(LWTUNNEL_IP_DST, encap.remote) + attribute(LWTUNNEL_IP_SRC, encap.source)
    kind = LWTUNNEL_ENCAP_IP
    if encap.remote.version == 6:
        kind = LWTUNNEL_ENCAP_IP6
        header += attribute(LWTUNNEL_IP_FLAGS, struct.pack("!H", TUNNEL_CSUM))
    return attribute(RTA_ENCAP_TYPE, struct.pack("=H", kind)) + attribute(RTA_ENCAP, header)


def replace_route(route: Route) -> Request:
    """Adds the route, or puts it in the place of the one with the same destination."""
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return Request(RTM_NEWROUTE, flags, _route_body(route), f"set the route to {route.destination}")


def delete_route(route: Route) -> Request:
    return Request(RTM_DELROUTE, 0, _route_body(route), f"delete the route to {route.destination}")


def add_neighbour(index: int, address: Address, mac: bytes) -> Request:
    """A permanent neighbour entry."""
    head = _NEIGHBOUR.pack(family(address), 0, 0, index, NUD_PERMANENT, 0, 0)
    body = head + attribute(NDA_DST, address) + attribute(NDA_LLADDR, mac)
    what = f"set the neighbour {address} of link {index}"
    return Request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body, what)


def links(netlink: Netlink) -> list[Link]:
    """All links of the socket's namespace."""
    answers = netlink.dump(Request(RTM_GETLINK, NLM_F_DUMP, _link_body(0), "list the links"))
    return [parse_link(body) for _, body in answers]


def parse_link(body: bytes) -> Link:
    """The link that an ``RTM_NEWLINK`` or ``RTM_DELLINK`` message speaks of."""
    _, _, hardware, index, flags, _ = _LINK.unpack_from(body)
    found = parse_attributes(body[_LINK.size :])
    info = parse_attributes(found.get(IFLA_LINKINFO, b""))
    kind = _text(info.get(IFLA_INFO_KIND, b""))
    data = parse_attributes(info.get(IFLA_INFO_DATA, b"")) if kind == "vxlan" else {}
    return Link(
        index=index,
        name=_text(found.get(IFLA_IFNAME, b"")),
        mtu=int.from_bytes(found.get(IFLA_MTU, b""), sys.byteorder),
        mac=found.get(IFLA_ADDRESS, b""),
        flags=flags,
        hardware=hardware,
        kind=kind,
        alias=_text(found.get(IFLA_IFALIAS, b"")),
        port=int.from_bytes(data.get(IFLA_VXLAN_PORT, b""), "big"),
    )


def addresses(netlink: Netlink) -> list[tuple[int, Interface]]:
    """All addresses of the socket's namespace as (link index, address with prefix length)."""
    head = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    answers = netlink.dump(Request(RTM_GETADDR, NLM_F_DUMP, head, "list the addresses"))
    result: list[tuple[int, Interface]] = []
    for _, body in answers:
        _, prefixlen, _, _, index = _ADDRESS.unpack_from(body)
        found = parse_attributes(body[_ADDRESS.size :])
        raw = found.get(IFA_LOCAL) or found[IFA_ADDRESS]
        result.append((index, ip_interface((raw, prefixlen))))
    return result


def routes(netlink: Netlink, protocol: int | None = PROTO_TULLE) -> list[Route]:
    """The routes of the main table with this protocol mark; all of them for ``None``."""
    head = _ROUTE.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)
    answers = netlink.dump(Request(RTM_GETROUTE, NLM_F_DUMP, head, "list the routes"))
    parsed = (_parse_route(body) for _, body in answers)
    return [r for r in parsed if r and protocol in (None, r.protocol)]


def _parse_route(body: bytes) -> Route | None:
    fam, length, _, _, _, protocol, scope, kind, flags = _ROUTE.unpack_from(body)
    found = parse_attributes(body[_ROUTE.size :])
    table = int.from_bytes(found.get(RTA_TABLE, b""), sys.byteorder)
    if table != RT_TABLE_MAIN or kind not in (RTN_UNICAST, RTN_UNREACHABLE):
        return None
    anything = bytes(4 if fam == socket.AF_INET else 16)
    return Route(
        destination=ip_network((found.get(RTA_DST, anything), length)),
        oif=int.from_bytes(found.get(RTA_OIF, b""), sys.byteorder) if kind == RTN_UNICAST else 0,
        gateway=ip_address(found[RTA_GATEWAY]) if RTA_GATEWAY in found else None,
        source=ip_address(found[RTA_PREFSRC]) if RTA_PREFSRC in found else None,
        encap=_parse_encap(found),
        scope=scope,
        protocol=protocol,
        onlink=bool(flags & RTNH_F_ONLINK),
    )


def _parse_encap(found: dict[int, bytes]) -> Encap | None:
    if RTA_ENCAP not in found:
        return None
    header = parse_attributes(found[RTA_ENCAP])
    if LWTUNNEL_IP_DST not in header or LWTUNNEL_IP_SRC not in header:
        return None
    remote, source = ip_address(header[LWTUNNEL_IP_DST]), ip_address(header[LWTUNNEL_IP_SRC])
    return Encap(int.from_bytes(header[LWTUNNEL_IP_ID], "big"), remote, source)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
