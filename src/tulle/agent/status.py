"""What this node's kernel and records say, without asking the agent."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec

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


def node_status(settings: Settings) -> NodeStatus:
    """Reads the state folder and the pinned maps. Raises ``TulleError`` where no agent has run."""
    pinned = Pinned(Path(settings.bpffs))
    try:
        prefixes = sorted(pinned.remotes())
        packets = list(pinned.counters())
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        raise TulleError(f"no agent has run on this node with bpffs {settings.bpffs}") from error
    return NodeStatus(
        pods=[PodStatus(a.owner, a.ips, a.link) for a in recorded(Path(settings.state_dir))],
        prefixes=[PrefixStatus(*each) for each in prefixes],
        packets=packets,
    )
