"""What this node's kernel and records say, without asking the agent; and what the API says of Services."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec

from tulle.agent.announce.status import AnnouncementStatus, announcements
from tulle.agent.bgp.status import BgpSession, bgp_sessions
from tulle.agent.host_ports.status import HostPortStatus, host_ports_status
from tulle.agent.pool_status import PoolsStatus, pools_status
from tulle.agent.services.shown import ServicesStatus
from tulle.agent.services.status import services_status
from tulle.agent.settings import Settings
from tulle.errors import KernelError, TulleError
from tulle.pod_to_pod.pinned import Count, Pinned
from tulle.pod_to_pod.store import recorded


class PodStatus(msgspec.Struct, frozen=True):
    """A connected Pod; ``link`` is the host's side of its veth."""

    pod: str
    ips: tuple[str, ...]
    link: str


class PrefixStatus(msgspec.Struct, frozen=True):
    """A prefix elsewhere in the cluster and the way there."""

    prefix: str
    transport: str
    node: str


class NodeStatus(msgspec.Struct, frozen=True):
    """``packets``: the counters that are not zero; the reasons of drops begin with ``drop_``."""

    pods: list[PodStatus]
    prefixes: list[PrefixStatus]
    packets: list[Count]
    announcements: list[AnnouncementStatus]
    services: ServicesStatus
    pools: PoolsStatus
    host_ports: list[HostPortStatus] = msgspec.field(name="hostPorts")
    bgp: list[BgpSession]

    @property
    def well(self) -> bool:
        """Whether the kernel is as the API and the records say."""
        return self.services.well and not any(each.differences for each in self.host_ports)


async def node_status(settings: Settings) -> NodeStatus:
    """Reads the state folder and the pinned maps; asks BIRD, and the API about Services and pools.

    Raises ``TulleError`` where no agent has run.
    """
    pinned = Pinned(Path(settings.bpffs))
    try:
        prefixes = sorted(pinned.remotes())
        packets = list(pinned.counters())
        announced = announcements(pinned)
        services = await services_status(settings)
        error = services.api_error
        pools = PoolsStatus(error, True, ()) if error else await pools_status(settings)
        host_ports = await host_ports_status(settings)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        raise TulleError(f"no agent has run on this node with bpffs {settings.bpffs}") from error
    return NodeStatus(
        pods=[PodStatus(a.owner, a.ips, a.link) for a in recorded(Path(settings.state_dir))],
        prefixes=[PrefixStatus(*each) for each in prefixes],
        packets=packets,
        announcements=announced,
        services=services,
        pools=pools,
        host_ports=host_ports,
        bgp=await bgp_sessions(settings.bgp),
    )
