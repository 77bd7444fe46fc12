"""How this node reaches the others: from Node objects to next hops. Pure.

A peer is reached *natively* where a packet with Pod addresses can go out by an uplink as it is, and
by *overlay* (VXLAN) otherwise. ``auto`` decides for each peer and family: native where the peer's
address lies in a subnet of an uplink.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from tulle.model.address import Address, Interface, Network, host_network
from tulle.model.objects import Node
from tulle.pod_to_pod.claims import Claims

VXLAN_OVERHEAD = {4: 50, 6: 70}
"""Bytes that VXLAN adds, by the version of the outer IP header: Ethernet 14, IP 20 or 40, UDP 8, VXLAN 8."""


class Routing(StrEnum):
    """The setting ``routing``."""

    NATIVE = "native"
    OVERLAY = "overlay"
    AUTO = "auto"


class Transport(StrEnum):
    """How one prefix is reached (``enum transport`` in ``bpf/contract.h``)."""

    NATIVE = "native"
    OVERLAY = "overlay"


@dataclass(frozen=True, slots=True)
class Uplink:
    """A device that leads to other nodes; ``addresses`` with the prefix lengths of its subnets."""

    index: int
    name: str
    mtu: int
    addresses: tuple[Interface, ...]


@dataclass(frozen=True, slots=True)
class Peer:
    """A node as far as forwarding is concerned; the first address and CIDR are of the primary family."""

    name: str
    addresses: tuple[Address, ...]
    pod_cidrs: tuple[Network, ...]

    def address(self, version: int) -> Address | None:
        return next((a for a in self.addresses if a.version == version), None)


class Way(NamedTuple):
    """From node to node in one family.

    ``node`` is the peer's address and ``source`` our own, both of the family in which the packet travels.
    ``neighbour``: the peer is on the uplink's subnet; if not, the kernel's routes know what comes next.
    """

    node: Address
    source: Address
    uplink: Uplink
    neighbour: bool


@dataclass(frozen=True, slots=True)
class Remote:
    """A prefix elsewhere in the cluster and the way there.

    ``tunnel``: the way of what is handed over inside the overlay, which is IPv4's where both nodes have it:
    outer IPv6 is not fragmented, and passes the VXLAN device. ``pods``: a Pod CIDR, or else the peer's own
    address.
    """

    prefix: Network
    transport: Transport
    way: Way
    tunnel: Way
    pods: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """What an object says that cannot be right; the object is left out, everything else goes on."""

    node: str
    message: str


def peers_of(nodes: Iterable[Node]) -> tuple[list[Peer], list[Problem]]:
    """The nodes that can take part, by name, and what is wrong with the others.

    A node without Pod CIDRs or addresses yet is neither. Of two nodes whose Pod CIDRs overlap, the one
    that comes later by name is left out.
    """
    peers: list[Peer] = []
    problems: list[Problem] = []
    cidrs, addresses = Claims(), Claims()
    for node in sorted(nodes, key=lambda n: n.metadata.name):
        try:
            peer = peer_of(node)
        except ValueError as error:
            problems.append(Problem(node.metadata.name, str(error)))
            continue
        if clash := _clash(peer, cidrs, addresses):
            problems.append(Problem(peer.name, clash))
        elif peer.pod_cidrs and peer.addresses:
            peers.append(peer)
            for cidr in peer.pod_cidrs:
                cidrs.add(cidr, peer.name)
            for address in peer.addresses:
                addresses.add(host_network(address), peer.name)
    return peers, problems


def peer_of(node: Node) -> Peer:
    """Reads a Node. Raises ``ValueError`` that names the field where an address or CIDR is wrong."""
    internal = [a.address for a in node.status.addresses if a.type == "InternalIP"]
    try:
        addresses = tuple(map(ip_address, internal))
    except ValueError as error:
        raise ValueError(f"status.addresses: {error}") from error
    try:
        cidrs = tuple(map(ip_network, node.spec.pod_cidrs))
    except ValueError as error:
        raise ValueError(f"spec.podCIDRs: {error}") from error
    if len({cidr.version for cidr in cidrs}) != len(cidrs):
        raise ValueError(f"spec.podCIDRs: {', '.join(map(str, cidrs))} has two of a family; one is right")
    return Peer(node.metadata.name, addresses, cidrs)


def _clash(peer: Peer, cidrs: Claims, addresses: Claims) -> str | None:
    """What the peer has that the nodes before it, or itself, have already given another meaning."""
    for cidr in peer.pod_cidrs:
        if other := cidrs.overlapping(cidr):
            return f"spec.podCIDRs: {cidr} overlaps {other.prefix} of node {other.node}"
        if inside := addresses.overlapping(cidr):
            address = inside.prefix.network_address
            return f"spec.podCIDRs: {cidr} holds {address}, the address of node {inside.node}"
        if own := next((a for a in peer.addresses if a in cidr), None):
            return f"spec.podCIDRs: {cidr} holds {own}, the address of node {peer.name}"
    for address in peer.addresses:
        if around := cidrs.overlapping(host_network(address)):
            return f"status.addresses: {address} lies in {around.prefix}, a Pod CIDR of node {around.node}"
    return None


def find_uplinks(uplinks: Sequence[Uplink], own: Peer) -> list[Uplink]:
    """Those that hold one of the node's own addresses."""
    return [u for u in uplinks if any(i.ip in own.addresses for i in u.addresses)]


def plan_remotes(
    own: Peer, peers: Iterable[Peer], uplinks: Sequence[Uplink], routing: Routing
) -> list[Remote]:
    """The way to each Pod CIDR and each address of each peer. ``uplinks`` is not empty.

    A peer with an address of ours is an old object of this node, from before it was renamed.
    """
    return [
        remote
        for peer in peers
        if peer.name != own.name and not set(peer.addresses) & set(own.addresses)
        for prefix, pods in _prefixes(peer)
        if (remote := _plan(own, peer, prefix, pods, uplinks, routing))
    ]


def _prefixes(peer: Peer) -> Iterator[tuple[Network, bool]]:
    yield from ((cidr, True) for cidr in peer.pod_cidrs)
    yield from ((host_network(address), False) for address in peer.addresses)


def _plan(
    own: Peer, peer: Peer, prefix: Network, pods: bool, uplinks: Sequence[Uplink], routing: Routing
) -> Remote | None:
    inner = _way(own, peer, prefix.version, uplinks)
    outer = next((w for a in peer.addresses if (w := _way(own, peer, a.version, uplinks))), None)
    tunnel = _way(own, peer, 4, uplinks) or outer
    if outer is None or tunnel is None:
        return None
    if inner and (routing is Routing.NATIVE or (routing is Routing.AUTO and inner.neighbour)):
        return Remote(prefix, Transport.NATIVE, inner, tunnel, pods)
    transport = Transport.NATIVE if routing is Routing.NATIVE else Transport.OVERLAY
    return Remote(prefix, transport, outer, tunnel, pods)


def _way(own: Peer, peer: Peer, version: int, uplinks: Sequence[Uplink]) -> Way | None:
    node, source = peer.address(version), own.address(version)
    if node is None or source is None:
        return None
    direct = next((u for u in uplinks if _on_link(u, node)), None)
    return Way(node, source, direct or _uplink_of(uplinks, source), direct is not None)


def _on_link(uplink: Uplink, address: Address) -> bool:
    return any(i.version == address.version and address in i.network for i in uplink.addresses)


def _uplink_of(uplinks: Sequence[Uplink], address: Address) -> Uplink:
    return next((u for u in uplinks if any(i.ip == address for i in u.addresses)), uplinks[0])


def pod_mtu(uplinks: Sequence[Uplink], remotes: Iterable[Remote], routing: Routing, own: Peer) -> int:
    """The MTU of a Pod's interface, in bytes: what every peer can be sent whole (N-20).

    With ``auto`` the overlay's headers count only once a peer needs them; a Pod from before learns the
    smaller size from the kernel's ICMP errors.
    """
    mtu = min(u.mtu for u in uplinks)
    outer = {r.way.node.version for r in remotes if r.transport is Transport.OVERLAY}
    if routing is Routing.OVERLAY:
        outer.add(own.addresses[0].version)
    return mtu - max((VXLAN_OVERHEAD[v] for v in outer), default=0)
