"""Keeps the node's way to the other nodes as the Node objects say."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from tulle.agent.attachments import Attachments
from tulle.agent.settings import Settings
from tulle.errors import ConfigError, KernelError, PrerequisiteError
from tulle.kernel import netns, nft, sysctl
from tulle.kernel.netlink import Netlink
from tulle.kernel.prerequisites import whole_cgroup2
from tulle.kernel.rtnetlink import ARPHRD_ETHER, IFF_UP, addresses, links
from tulle.model.address import host_network, is_ipv4, parse_lenient, to_bytes
from tulle.model.objects import Node
from tulle.pod_to_pod import masquerade, routes
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.link import LinkSettings
from tulle.pod_to_pod.programs import ExternalTraffic
from tulle.pod_to_pod.topology import (
    Peer,
    Problem,
    Remote,
    Transport,
    Uplink,
    find_uplinks,
    peers_of,
    plan_remotes,
    pod_mtu,
)

log = logging.getLogger(__name__)

ZONE = "topology.kubernetes.io/zone"


class NotYet(Exception):
    """The Node objects do not say yet what is needed; the sentence says what is awaited."""


class NodeReconciler:
    """Programs, maps, routes, the overlay device and the masquerading of this node."""

    def __init__(self, settings: Settings, datapath: Datapath, attachments: Attachments) -> None:
        self._settings = settings
        self._datapath = datapath
        self._attachments = attachments
        self._ruleset = ""
        self._degraded = ""
        self.problems: list[Problem] = []
        self.zone = ""
        """``topology.kubernetes.io/zone`` of this node, as ``apply`` was last told."""
        self.addresses: frozenset[bytes] = frozenset()
        """What this node itself is reached by, 16 bytes each, as the kernel said at the last ``apply``."""
        self.primary: frozenset[bytes] = frozenset()
        """By what the Node object names this node: one address of each family at most, 16 bytes each."""
        self.uplinks: tuple[Uplink, ...] = ()
        """As the last ``apply`` found them."""

    async def apply(self, nodes: Iterable[Node], complete: bool) -> None:
        """Brings the kernel to what the nodes ask for.

        ``complete``: all Node objects are known, so what none of them asks for goes. Raises ``NotYet``,
        ``ConfigError`` and ``AddressError`` for what an operator must mend, ``KernelError``.
        """
        nodes = list(nodes)
        peers, self.problems = peers_of(nodes)
        own = self._own(peers)
        self.zone = _zone(nodes, own.name)
        self.primary = next((primary_of(n) for n in nodes if n.metadata.name == own.name), frozenset())
        with Netlink() as netlink:
            self.addresses = frozenset(to_bytes(i.ip) for _, i in addresses(netlink))
            self._datapath.set_self(own.addresses)
            uplinks = self._uplinks(netlink, own)
            self.uplinks = tuple(uplinks)
            remotes = plan_remotes(own, peers, uplinks, self._settings.routing)
            self._prepare_node(own, uplinks)
            overlay = self._sync_overlay(netlink, own, remotes, complete)
            for uplink in uplinks:
                self._datapath.attach("uplink", uplink.index, uplink.name)
            changed = self._datapath.sync_remotes(remotes, overlay, remove=complete)
            desired = routes.desired_routes(own, remotes, overlay, self._settings.overlay_vni)
            routed = routes.apply(netlink, desired, remove=complete)
        if complete:
            self._detach_others(uplinks)
        await self._masquerade(own, peers)
        mtu = self._settings.mtu or pod_mtu(uplinks, remotes, self._settings.routing, own)
        self._attachments.configure(own.pod_cidrs, LinkSettings(mtu, own.addresses))
        self._sync_sockets(own)
        if changed or routed.replace or routed.delete:
            log.info("%d nodes, %d prefixes elsewhere, Pod MTU %d", len(peers), len(remotes), mtu)

    def _own(self, peers: Sequence[Peer]) -> Peer:
        name = self._settings.node_name
        for peer in peers:
            if peer.name == name:
                return peer
        for problem in self.problems:
            if problem.node == name:
                raise ConfigError(problem.message)
        raise NotYet(f"Node {name} with spec.podCIDRs and an InternalIP in status.addresses")

    def _uplinks(self, netlink: Netlink, own: Peer) -> list[Uplink]:
        by_link = addresses(netlink)
        devices = [
            Uplink(x.index, x.name, x.mtu, tuple(i for index, i in by_link if index == x.index))
            for x in links(netlink)
            if x.hardware == ARPHRD_ETHER and x.flags & IFF_UP and x.name != routes.OVERLAY_DEVICE
        ]
        if names := self._settings.uplinks:
            found = [u for u in devices if u.name in names]
            if missing := set(names) - {u.name for u in found}:
                raise ConfigError(
                    f"uplinks: no Ethernet device {', '.join(sorted(missing))} is up on this node"
                )
            return found
        if found := find_uplinks(devices, own):
            return found
        known = ", ".join(map(str, own.addresses))
        raise NotYet(f"an Ethernet device with an address of Node {own.name} ({known}); or set uplinks")

    def _prepare_node(self, own: Peer, uplinks: Sequence[Uplink]) -> None:
        """The node forwards for its Pods. It would no longer listen to IPv6 routers then, unless told to."""
        versions = {cidr.version for cidr in own.pod_cidrs}
        if 4 in versions:
            sysctl.ensure("net/ipv4/ip_forward", 1)
        if 6 in versions:
            for uplink in uplinks:
                if sysctl.read(f"net/ipv6/conf/{uplink.name}/accept_ra") == "1":
                    sysctl.write(f"net/ipv6/conf/{uplink.name}/accept_ra", 2)
            sysctl.ensure("net/ipv6/conf/all/forwarding", 1)

    def _sync_overlay(self, netlink: Netlink, own: Peer, remotes: Sequence[Remote], complete: bool) -> int:
        """The index of the overlay device; 0, and no device, when no peer needs it: neither for its Pods, nor
        because clients outside are handed over to it.
        """
        hands_over = self._settings.services and self._settings.external_traffic is not ExternalTraffic.SNAT
        if any(hands_over or r.transport is Transport.OVERLAY for r in remotes):
            mtu = routes.overlay_mtu(remotes)
            index = routes.ensure_overlay(netlink, mtu, self._settings.overlay_port, own)
            self._datapath.attach("overlay", index, routes.OVERLAY_DEVICE)
            return index
        if complete:
            self._datapath.detach("overlay", routes.OVERLAY_DEVICE)
            routes.remove_overlay(netlink)
        return 0

    def _sync_sockets(self, own: Peer) -> None:
        self._datapath.set_client(netns.own_cookie(), "NODE", own.addresses)
        try:
            group = Path(self._settings.cgroup) if self._settings.cgroup else whole_cgroup2()
            self._datapath.attach_sockets(group)
        except (PrerequisiteError, KernelError, OSError) as error:
            degraded = "Pods have Services per packet, the node's own processes have none"
            self._degrade(own, f"no Services at sockets: {error}; {degraded}")
        else:
            self._degraded = ""

    def _degrade(self, own: Peer, message: str) -> None:
        """The log has it, also when the API cannot be told."""
        if message != self._degraded:
            log.warning("%s", message)
        self._degraded = message
        self.problems.append(Problem(own.name, message))

    def _detach_others(self, uplinks: Sequence[Uplink]) -> None:
        for device in self._datapath.attached("uplink") - {u.name for u in uplinks}:
            self._datapath.detach("uplink", device)
        self._datapath.remove_other_versions()

    async def _masquerade(self, own: Peer, peers: Sequence[Peer]) -> None:
        cluster = [c for p in peers for c in (*p.pod_cidrs, *map(host_network, p.addresses))]
        kept = [*cluster, *self._settings.kept]
        ruleset = (
            masquerade.ruleset(own.pod_cidrs, kept, self._datapath.mark("MASQUERADE"))
            if self._settings.masquerade
            else masquerade.removal()
        )
        there = ruleset == self._ruleset and await nft.has_table(masquerade.TABLE)
        if there != self._settings.masquerade or ruleset != self._ruleset:
            await nft.apply(ruleset)
            self._ruleset = ruleset


def primary_of(node: Node) -> frozenset[bytes]:
    """The first InternalIP of each family, or else the first ExternalIP (S-21)."""
    found: dict[bool, bytes] = {}
    for kind in ("InternalIP", "ExternalIP"):
        for each in node.status.addresses:
            if each.type == kind and (address := parse_lenient(each.address)):
                found.setdefault(is_ipv4(address), address)
    return frozenset(found.values())


def _zone(nodes: Iterable[Node], name: str) -> str:
    return next((n.metadata.labels.get(ZONE, "") for n in nodes if n.metadata.name == name), "")
