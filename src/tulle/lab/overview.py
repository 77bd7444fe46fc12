"""What a lab is doing: its nodes, processes and Pods."""

from __future__ import annotations

from collections import Counter

import msgspec
from rich.table import Table

from tulle.errors import ApiError, ApiUnreachable
from tulle.kube.resources import NODE
from tulle.lab import processes
from tulle.lab.kubelet.objects import PODS
from tulle.lab.underlay import UNDERLAY
from tulle.lab.up import Lab, ready_node

_MEGABYTE = 1 << 20


class ProcessView(msgspec.Struct, frozen=True):
    """``rss`` in bytes, with that of the processes that it has started to share its work."""

    what: str
    pid: int
    alive: bool
    rss: int


class NodeView(msgspec.Struct, frozen=True):
    """``ready`` and ``pods`` are None when the API does not answer."""

    name: str
    zone: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    ready: bool | None
    pods: int | None
    processes: tuple[ProcessView, ...]


class Overview(msgspec.Struct, frozen=True):
    name: str
    healthy: bool
    kubeconfig: str
    routing: str
    apiserver: tuple[ProcessView, ...]
    world: tuple[ProcessView, ...]
    nodes: tuple[NodeView, ...]


async def look(lab: Lab) -> Overview:
    """The processes as the kernel has them, the rest as the API says."""
    ready, pods = await _ask(lab)
    by_host: dict[str, list[ProcessView]] = {}
    for process in processes.recorded(lab.paths):
        view = ProcessView(process.what, process.pid, process.alive(), processes.resident(lab.paths, process))
        by_host.setdefault(process.host, []).append(view)
    nodes = tuple(
        NodeView(
            name=node.name,
            zone=node.zone,
            addresses=tuple(str(address.ip) for address in node.addresses),
            pod_cidrs=tuple(str(cidr) for cidr in node.pod_cidrs),
            ready=None if ready is None else node.name in ready,
            pods=None if pods is None else pods[node.name],
            processes=tuple(by_host.pop(node.name, ())),
        )
        for node in lab.topology.nodes
    )
    server, world = (tuple(by_host.pop(host, ())) for host in (UNDERLAY, lab.topology.world.name))
    of_nodes = [view for node in nodes for view in node.processes]
    alive = all(view.alive for view in (*of_nodes, *server, *world))
    return Overview(
        name=lab.spec.name,
        healthy=alive and all(node.ready for node in nodes),
        kubeconfig=str(lab.paths.kubeconfig),
        routing=lab.spec.routing,
        apiserver=server,
        world=world,
        nodes=nodes,
    )


async def _ask(lab: Lab) -> tuple[set[str] | None, Counter[str] | None]:
    """Names of the nodes that are Ready, and the number of Pods per node."""
    try:
        async with lab.client() as client:
            nodes = await client.list(NODE)
            pods = await client.list(PODS)
    except (ApiError, ApiUnreachable):
        return None, None
    ready = {node.metadata.name for node in nodes.items if ready_node(node)}
    return ready, Counter(pod.spec.node_name for pod in pods.items)


def table(overview: Overview) -> Table:
    """For people."""
    view = Table("NODE", "READY", "ZONE", "ADDRESSES", "POD CIDRS", "PODS", "PROCESSES", box=None)
    for column in view.columns:
        column.no_wrap = True
    for node in overview.nodes:
        view.add_row(
            node.name,
            {True: "[green]yes[/]", False: "[red]no[/]", None: "?"}[node.ready],
            node.zone,
            "\n".join(node.addresses),
            "\n".join(node.pod_cidrs),
            "?" if node.pods is None else str(node.pods),
            "\n".join(map(_process, node.processes)),
        )
    for name, views in ((UNDERLAY, overview.apiserver), ("world", overview.world)):
        view.add_row(name, "", "", "", "", "", "\n".join(map(_process, views)))
    return view


def _process(view: ProcessView) -> str:
    state = f"{view.rss / _MEGABYTE:.0f} MB" if view.alive else "[red]dead[/]"
    return f"{view.what} {view.pid} {state}"
