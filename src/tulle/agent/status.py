"""What this node's kernel and records say, without asking the agent; and what the API says of Services."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec

from tulle.agent.bgp_status import BgpSession, bgp_sessions
from tulle.agent.service_status import ServicesStatus, services_status
from tulle.agent.settings import Settings
from tulle.errors import KernelError, TulleError
from tulle.pod_to_pod.datapath import Count, Pinned
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
    services: ServicesStatus
    bgp: list[BgpSession] = []


async def node_status(settings: Settings) -> NodeStatus:
    """Reads the state folder and the pinned maps, asks BIRD, and asks the API about Services.

    Raises ``TulleError`` where no agent has run.
    """
    pinned = Pinned(Path(settings.bpffs))
    try:
        prefixes = sorted(pinned.remotes())
        packets = list(pinned.counters())
        services = await services_status(settings)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        raise TulleError(f"no agent has run on this node with bpffs {settings.bpffs}") from error
    return NodeStatus(
        pods=[PodStatus(a.owner, a.ips, a.link) for a in recorded(Path(settings.state_dir))],
        prefixes=[PrefixStatus(*each) for each in prefixes],
        packets=packets,
        services=services,
        bgp=await bgp_sessions(settings.bgp),
    )
