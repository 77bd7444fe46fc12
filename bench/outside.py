"""Clients outside, and what Tulle is measured against: the same wires, connected by the kernel alone.

A node is reached from three places: from the other end of its uplink's *wire*, from the lab's *router*, which
is a bridge away, and from the lab's *world*, which is another subnet away.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import baselines, namespaces, nodes
from bench.nodes import Node, Wires
from tulle.lab import underlay
from tulle.lab.spec import Host

WIRE, ROUTER, WORLD = "wire", "router", "world"
HERE, THERE = 0, 1
"""Which node a Pod is on: that by which clients enter, or the other one."""


@dataclass(frozen=True, slots=True)
class Site:
    """Nodes with a Pod on each, and clients outside, by the names above; addresses come IPv4 first.

    ``servers``: the Pods' network namespaces; ``pods``: their addresses; ``entry``: those of the first node.
    """

    clients: dict[str, Path]
    nodes: tuple[Path, ...]
    entry: tuple[str, ...]
    servers: tuple[Path, ...]
    pods: tuple[tuple[str, ...], ...]


def alone(folder: Path, stack: ExitStack) -> Site:
    """One node that forwards by the kernel's own routes."""
    plan, (node,) = nodes.one_wire(folder, stack)
    host = plan.nodes[0]
    pod = baselines.routed_pod(folder / "pod", stack, node, host)
    return _site(folder, plan.nodes, [node], [(pod, baselines.pod_addresses(host))])


def routed(folder: Path, stack: ExitStack, vxlan: bool = False) -> Site:
    """Two nodes that do so: to each other's Pods over the wire, or in VXLAN."""
    plan, paths = nodes.wires(folder, stack, 2)
    connect = baselines.tunnelled_pod if vxlan else baselines.routed_pod
    pods = [
        (connect(folder / f"pod-{host.name}", stack, path, host, peer), baselines.pod_addresses(host))
        for host, peer, path in zip(plan.nodes, reversed(plan.nodes), paths, strict=True)
    ]
    return _site(folder, plan.nodes, paths, pods)


def tulle(
    folder: Path, stack: ExitStack, count: int, *flags: str, lay: Wires = nodes.wires
) -> tuple[Site, list[Node]]:
    """Nodes with agents."""
    made = nodes.cluster(folder, stack, count, *flags, lay=lay)
    pods = [node.pod("server") for node in made]
    return _site(folder, [node.host for node in made], [node.path for node in made], pods), made


def _site(
    folder: Path, hosts: Sequence[Host], paths: Sequence[Path], pods: Sequence[tuple[Path, tuple[str, ...]]]
) -> Site:
    router, world = (folder / "netns" / name for name in (underlay.UNDERLAY, WORLD))
    clients = {ROUTER: router, WORLD: world} if world.exists() else {WIRE: router}
    _lead_to_pods(router, hosts)
    entry = tuple(str(address.ip) for address in hosts[0].addresses)
    return Site(clients, tuple(paths), entry, tuple(p for p, _ in pods), tuple(a for _, a in pods))


def _lead_to_pods(router: Path, hosts: Sequence[Host]) -> None:
    """The router gets to know where Pods are: only the benchmark's does."""
    ways = (pair for host in hosts for pair in zip(host.pod_cidrs, host.addresses, strict=True))
    namespaces.ip(router, [f"route add {cidr} via {address.ip}" for cidr, address in ways])
