"""A Pod's link: the veth pair between its network namespace and the node's.

The Pod has its addresses as ``/32`` and ``/128`` and sees one neighbour, the gateway, at a link-local
address that is the same for every Pod. All entries are permanent: nothing is looked up on the link.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from pathlib import Path
from typing import Final

from tulle.errors import KernelError
from tulle.kernel import netns, sysctl, tc
from tulle.kernel.netlink import Netlink, Request
from tulle.kernel.rtnetlink import (
    PROTO_BOOT,
    SCOPE_LINK,
    SCOPE_UNIVERSE,
    Route,
    add_address,
    add_neighbour,
    add_veth,
    addresses,
    delete_link,
    leave_link_local_to_us,
    replace_route,
    routes,
    set_alias,
    set_up,
)
from tulle.model.address import Address, host_network
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.programs import GATEWAY_MAC, POD_PROGRAMS
from tulle.pod_to_pod.store import Attachment

GATEWAYS: Final[dict[int, Address]] = {4: IPv4Address("169.254.1.1"), 6: IPv6Address("fe80::1")}
ANYWHERE: Final = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}

_GONE: Final = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH})


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """``mtu`` in bytes; ``node_addresses`` are what the node itself speaks to its Pods with."""

    mtu: int
    node_addresses: tuple[Address, ...]


def connect(attachment: Attachment, settings: LinkSettings, datapath: Datapath) -> int:
    """Makes the link and brings it up last, when the programs and maps are in place.

    Returns the cookie of the Pod's network namespace.

    Raises ``FileNotFoundError`` when the network namespace is not there, ``FileExistsError`` when the
    interface name is taken in it, ``KernelError`` for the rest; then nothing is left behind.
    """
    with ExitStack() as undo:
        undo.callback(disconnect, attachment, datapath)
        with netns.entered(Path(attachment.netns)) as home, Netlink() as netlink:
            _make_pair(netlink, attachment, home, settings.mtu)
            _set_up_pod_side(netlink, attachment)
            cookie = netns.own_cookie()
        _set_up_host_side(attachment, settings, datapath)
        undo.pop_all()
    return cookie


def disconnect(attachment: Attachment, datapath: Datapath) -> None:
    """Takes away what ``connect`` made, as far as it is there. Raises ``KernelError``."""
    withdraw(attachment, datapath)
    remove(attachment)


def withdraw(attachment: Attachment, datapath: Datapath) -> None:
    """Nothing is delivered to the Pod any more: its addresses may be another's from now on."""
    for address in addresses_of(attachment):
        datapath.remove_endpoint(address)


def remove(attachment: Attachment) -> None:
    """Deletes the host's side of the link, with which the Pod's goes. Raises ``KernelError``.

    The kernel takes tens of milliseconds until it answers; it announces the link's end long before.
    """
    with Netlink() as netlink:
        netlink.send([delete_link(attachment.link)], tolerate=_GONE)


def exists(attachment: Attachment) -> bool:
    """Whether the host's side of the link is there; the Pod's side is then, too."""
    try:
        socket.if_nametoindex(attachment.link)
    except OSError:
        return False
    return True


def repair(attachment: Attachment, settings: LinkSettings, datapath: Datapath) -> None:
    """Sets up the host's side anew: the programs of this agent, the entries, the routes.

    What is right already stays as it is, so no packet is lost. Raises ``KernelError``, ``OSError``.
    """
    _set_up_host_side(attachment, settings, datapath)


def link_local(mac: str) -> IPv6Address:
    """The Pod's link-local address: the modified EUI-64 of its MAC (RFC 4291, appendix A)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + identifier)


def addresses_of(attachment: Attachment) -> tuple[Address, ...]:
    """All addresses at which the Pod is reached on its node."""
    return *attachment.addresses, link_local(attachment.mac)


def _mac(attachment: Attachment) -> bytes:
    return bytes.fromhex(attachment.mac.replace(":", ""))


def _speaks_v6(attachment: Attachment) -> bool:
    return any(a.version == 6 for a in attachment.addresses)


def _make_pair(netlink: Netlink, attachment: Attachment, home: int, mtu: int) -> None:
    """Makes the veth from within the Pod's namespace; its other side is in that behind ``home``."""
    pair = add_veth(attachment.ifname, _mac(attachment), attachment.link, GATEWAY_MAC, home, mtu)
    try:
        netlink.send([pair])
    except KernelError as error:
        if error.errno == errno.EEXIST and attachment.ifname in dict(socket.if_nameindex()).values():
            raise FileExistsError(f"interface {attachment.ifname} exists in {attachment.netns}") from error
        raise


def _set_up_pod_side(netlink: Netlink, attachment: Attachment) -> None:
    index = socket.if_nametoindex(attachment.ifname)
    if _speaks_v6(attachment):
        sysctl.write(f"net/ipv6/conf/{attachment.ifname}/disable_ipv6", 0)
        sysctl.write(f"net/ipv6/conf/{attachment.ifname}/accept_ra", 0)
    netlink.send(list(_pod_side(attachment, index)))


def _pod_side(attachment: Attachment, index: int) -> Iterator[Request]:
    if _speaks_v6(attachment):
        yield leave_link_local_to_us(index)
        yield add_address(index, ip_interface(f"{link_local(attachment.mac)}/64"), SCOPE_LINK)
    for address in attachment.addresses:
        yield add_address(index, ip_interface(address))
    yield set_up(index)
    for address in attachment.addresses:
        gateway = GATEWAYS[address.version]
        yield add_neighbour(index, gateway, GATEWAY_MAC)
        if address.version == 4:
            yield replace_route(Route(host_network(gateway), index, scope=SCOPE_LINK, protocol=PROTO_BOOT))
        yield replace_route(Route(ANYWHERE[address.version], index, gateway, protocol=PROTO_BOOT))


def _set_up_host_side(attachment: Attachment, settings: LinkSettings, datapath: Datapath) -> None:
    index = socket.if_nametoindex(attachment.link)
    for address in addresses_of(attachment):
        datapath.set_endpoint(address, index, _mac(attachment))
    with Netlink() as netlink:
        netlink.send([*datapath.pod_programs(index), *_host_side(attachment, settings, index)])


def _host_side(attachment: Attachment, settings: LinkSettings, index: int) -> Iterator[Request]:
    yield set_alias(index, f"{attachment.owner} {attachment.ifname}"[:255])
    if _speaks_v6(attachment):
        yield leave_link_local_to_us(index)
        yield add_address(index, ip_interface(f"{GATEWAYS[6]}/64"), SCOPE_LINK)
        yield add_neighbour(index, link_local(attachment.mac), _mac(attachment))
    yield set_up(index)
    for address in attachment.addresses:
        yield add_neighbour(index, address, _mac(attachment))
        yield replace_route(pod_route(address, index, settings.node_addresses))


def pod_route(address: Address, index: int, node_addresses: Sequence[Address]) -> Route:
    """The node's own route to a Pod. It speaks to the Pod with its own address, as to all others."""
    source = next((a for a in node_addresses if a.version == address.version), None)
    scope = SCOPE_LINK if address.version == 4 else SCOPE_UNIVERSE
    return Route(host_network(address), index, source=source, scope=scope)


def inspect(attachment: Attachment, datapath: Datapath) -> str | None:
    """What is missing of the link, in words; ``None`` when all is there (CNI CHECK)."""
    with Netlink() as netlink:
        try:
            index = socket.if_nametoindex(attachment.link)
        except OSError:
            return f"the host's link {attachment.link}"
        for name, parent in POD_PROGRAMS:
            if name not in tc.attached(netlink, index, parent):
                return f"the program {name} on link {attachment.link}"
        routed = {r.destination for r in routes(netlink) if r.oif == index}
    for address in attachment.addresses:
        if datapath.endpoint_link(address) != index:
            return f"the endpoint of {address}"
        if host_network(address) not in routed:
            return f"the node's route to {address}"
    return _inspect_pod_side(attachment)


def _inspect_pod_side(attachment: Attachment) -> str | None:
    try:
        with netns.entered(Path(attachment.netns)), Netlink() as netlink:
            index = socket.if_nametoindex(attachment.ifname)
            there = {i.ip for number, i in addresses(netlink) if number == index}
            ways = {r.destination for r in routes(netlink, None) if r.oif == index}
    except FileNotFoundError:
        return f"the network namespace {attachment.netns}"
    except OSError:
        return f"the interface {attachment.ifname}"
    for address in attachment.addresses:
        if address not in there:
            return f"the address {address} of {attachment.ifname}"
        if ANYWHERE[address.version] not in ways:
            return f"the default route for IPv{address.version}"
    return None
