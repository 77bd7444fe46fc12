"""BGPPeers: routers that nodes tell where Pods and load balancers are, with only the fields in use."""

from __future__ import annotations

import msgspec

from tulle.model.objects import ObjectMeta
from tulle.model.selectors import LabelSelector

POD_CIDRS, LOAD_BALANCERS = "PodCIDRs", "LoadBalancers"
"""What ``spec.announce`` can hold."""
ESTABLISHED, DOWN, INVALID, UNKNOWN = "Established", "Down", "Invalid", "Unknown"
"""States of a session. Invalid: something must be mended first, on this side. Unknown: nobody hears of its
node."""


class PasswordSecret(msgspec.Struct, frozen=True, gc=False):
    """A key of a Secret in the namespace ``kube-system``."""

    key: str = ""
    name: str = "tulle-bgp"


class BGPPeerSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Times are in seconds. ``keepalive_time`` None: a third of ``hold_time``.

    ``ebgp_multihop``: how many hops away the router may be; 0: in a subnet of the node.
    """

    peer_address: str = ""
    peer_asn: int = msgspec.field(name="peerASN", default=0)
    local_asn: int = msgspec.field(name="localASN", default=0)
    peer_port: int = 179
    source_address: str = ""
    node_selector: LabelSelector | None = None
    password_secret: PasswordSecret | None = None
    hold_time: int = 90
    keepalive_time: int | None = None
    connect_retry: int = 10
    graceful_restart: bool = True
    restart_time: int = 120
    ebgp_multihop: int = 0
    communities: tuple[str, ...] | None = None
    announce: tuple[str, ...] | None = None


class Session(msgspec.Struct, frozen=True, gc=False):
    """One of ``status.sessions``: what a node says of its session. ``since``: RFC 3339."""

    state: str = DOWN
    since: str = ""
    message: str = ""


class PeerCondition(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One of ``status.conditions``. ``status`` is True, False or Unknown."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class BGPPeerStatus(msgspec.Struct, frozen=True, gc=False):
    """``sessions`` by the names of the nodes that have one."""

    sessions: dict[str, Session] | None = None
    conditions: tuple[PeerCondition, ...] | None = None


class BGPPeer(msgspec.Struct, frozen=True, gc=False):
    """A tulle.dev/v1 BGPPeer."""

    metadata: ObjectMeta
    spec: BGPPeerSpec = BGPPeerSpec()
    status: BGPPeerStatus = BGPPeerStatus()
