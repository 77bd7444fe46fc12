"""The kernel's own way to other nodes, beside the short cuts of eBPF: routes and the overlay device.

Pure where it decides, netlink where it acts.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface

from tulle.errors import KernelError
from tulle.kernel import sysctl
from tulle.kernel.netlink import Netlink, Request
from tulle.kernel.rtnetlink import (
    Encap,
    Route,
    add_address,
    add_vxlan,
    addresses,
    delete_link,
    delete_route,
    leave_link_local_to_us,
    links,
    replace_route,
    routes,
    set_mtu,
    set_up,
)
from tulle.pod_to_pod.programs import GATEWAY_MAC
from tulle.pod_to_pod.topology import VXLAN_OVERHEAD, Peer, Remote, Transport

OVERLAY_DEVICE = "tulle-overlay"
LOOSE_RP_FILTER = 2


def desired_routes(own: Peer, remotes: Iterable[Remote], overlay_index: int, vni: int) -> Iterator[Route]:
    """The routes to the other nodes' Pods, and an end for our own Pod CIDRs.

    An address of ours that no Pod has is unreachable, lest it go out by the default route. Prefixes that
    the underlay's routers know need no route, nor do the nodes' own addresses.
    """
    yield from (Route(cidr) for cidr in own.pod_cidrs)
    for remote in remotes:
        if not remote.pods:
            continue
        source = own.address(remote.prefix.version)
        if remote.transport is Transport.OVERLAY:
            encap = Encap(vni, remote.way.node, remote.way.source)
            yield Route(remote.prefix, overlay_index, source=source, encap=encap)
        elif remote.way.neighbour and remote.way.node.version == remote.prefix.version:
            yield Route(remote.prefix, remote.way.uplink.index, remote.way.node, source=source)


@dataclass(frozen=True, slots=True)
class Change:
    """What brings the kernel's routes to those desired."""

    replace: tuple[Route, ...]
    delete: tuple[Route, ...]


def difference(desired: Iterable[Route], actual: Iterable[Route]) -> Change:
    """Compares routes; those to single Pods are their links' matter, not ours."""
    ours = [r for r in actual if not _is_pod(r)]
    wanted = {r.destination: r for r in desired}
    replace = tuple(r for r in wanted.values() if r not in ours)
    delete = tuple(r for r in ours if r.destination not in wanted)
    return Change(replace, delete)


def _is_pod(route: Route) -> bool:
    """Straight to a device: also to a Pod from before the node was given other Pod CIDRs."""
    return bool(route.oif) and route.gateway is None and route.encap is None


def apply(netlink: Netlink, desired: Iterable[Route], remove: bool) -> Change:
    """Makes it so; without ``remove`` nothing is taken away. Raises ``KernelError``."""
    change = difference(desired, routes(netlink))
    requests: list[Request] = [delete_route(r) for r in change.delete] if remove else []
    netlink.send([*map(replace_route, change.replace), *requests], tolerate=frozenset({errno.ESRCH}))
    return change


def overlay_mtu(remotes: Iterable[Remote]) -> int:
    """What fits through the overlay to each node, in bytes: to those whose Pods are reached by it, and to
    those to whom clients' packets are handed over.
    """
    remotes = list(remotes)
    ways = [r.way for r in remotes if r.transport is Transport.OVERLAY]
    ways += [r.tunnel for r in remotes]
    return min(way.uplink.mtu - VXLAN_OVERHEAD[way.node.version] for way in ways)


def ensure_overlay(netlink: Netlink, mtu: int, port: int, own: Peer) -> int:
    """Makes the VXLAN device, or sets its MTU; returns its index.

    It has the node's own addresses, too, so that whatever the host masquerades on its way out by this
    device gets an address that the other node knows for ours; and routes back need not lead here.
    Raises ``KernelError``, EEXIST when another kind of device has its name.
    """
    there = next((link for link in links(netlink) if link.name == OVERLAY_DEVICE), None)
    if there and there.kind != "vxlan":
        raise KernelError(errno.EEXIST, f"create {OVERLAY_DEVICE}, whose name a {there.kind} has")
    if there and there.port != port:
        remove_overlay(netlink)
        there = None
    if there is None:
        netlink.send([add_vxlan(OVERLAY_DEVICE, GATEWAY_MAC, mtu, port)])
    index = socket.if_nametoindex(OVERLAY_DEVICE)
    sysctl.ensure(f"net/ipv4/conf/{OVERLAY_DEVICE}/rp_filter", LOOSE_RP_FILTER)
    known = {address for number, address in addresses(netlink) if number == index}
    wanted = [ip_interface(address) for address in own.addresses]
    netlink.send(
        [
            set_mtu(index, mtu),
            leave_link_local_to_us(index),
            set_up(index),
            *(add_address(index, address) for address in wanted if address not in known),
        ]
    )
    return index


def remove_overlay(netlink: Netlink) -> None:
    """Takes the device away, and with it the port it listens on; nothing happens without one."""
    netlink.send([delete_link(OVERLAY_DEVICE)], tolerate=frozenset({errno.ENODEV}))
