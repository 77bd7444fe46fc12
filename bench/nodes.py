"""Tulle's own side: nodes with real agents on the lab's underlay, Pods connected by real CNI calls.

No API is there: an agent finds its Node objects in the snapshot that an earlier one would have left.
"""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from ipaddress import ip_interface
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench import namespaces, plugin
from bench.plugin import Sandbox
from tulle.errors import LabError
from tulle.kernel import libc, netns
from tulle.kernel.prerequisites import cgroup2
from tulle.lab import cgroup, underlay
from tulle.lab.spec import Host, Spec, Topology, topology

NO_API = """
apiVersion: v1
kind: Config
current-context: none
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: none, user: {token: none}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
"""
_START_SECONDS = 30.0


class Node:
    """A node with its agent, in ``folder`` and in the network namespace at ``path``.

    Processes of the node and its Pods have Services at the socket when they are in ``group``.
    """

    def __init__(self, host: Host, path: Path, group: Path, folder: Path, stack: ExitStack) -> None:
        self.host = host
        self.path = path
        self.group = group
        self._folder = folder
        self._stack = stack
        self.socket = folder / "run" / "cni.sock"

    def start(self, bpffs: Path, kubeconfig: Path, *flags: str) -> None:
        """Returns when Pods can be connected. Raises ``LabError``."""
        self.bpffs = bpffs
        settings = {
            "kubeconfig": kubeconfig,
            "node-name": self.host.name,
            "state-dir": self._folder / "state",
            "run-dir": self._folder / "run",
            "bpffs": bpffs,
            "cni-conf-dir": self._folder / "net.d",
            "cni-bin-dir": self._folder / "bin",
            "cgroup": self.group,
        }
        command = [sys.executable, "-m", "tulle", "agent", *flags]
        command += [f"--{name}={value}" for name, value in settings.items()]
        with self._log.open("wb") as log:
            self.agent = namespaces.start(self.path, command, self._stack, log)
        for _ in range(int(_START_SECONDS / 0.02)):
            if self._ready():
                return
            select.select([], [], [], 0.02)
        raise LabError(f"the agent of {self.host.name} does not start: {self._log.read_text()}")

    @property
    def _log(self) -> Path:
        return self._folder / "agent.log"

    def _ready(self) -> bool:
        try:
            plugin.call(self.socket, "STATUS")
        except LabError:
            return False
        return True

    def sandbox(self, name: str) -> Sandbox:
        """A network namespace for a Pod, not connected yet."""
        path = self._folder / "pods" / name
        return Sandbox(f"{self.host.name}-{name}", namespaces.make(path, self._stack))

    def pod(self, name: str) -> tuple[Path, tuple[str, ...]]:
        """A connected Pod: its network namespace and its addresses, IPv4 first."""
        sandbox = self.sandbox(name)
        _, result = plugin.call(self.socket, "ADD", sandbox)
        addresses = sorted(
            (ip_interface(ip["address"]).ip for ip in result["ips"]), key=lambda ip: ip.version
        )
        return sandbox.netns, tuple(str(ip) for ip in sorted(addresses, key=lambda ip: ip.version))


Wires = Callable[[Path, ExitStack, int], tuple[Topology, list[Path]]]
"""Makes so many nodes' namespaces below a folder, and what connects them."""


def wires(folder: Path, stack: ExitStack, nodes: int) -> tuple[Topology, list[Path]]:
    """The lab's underlay, and on it nodes with nothing but their own addresses: their namespaces."""
    plan = topology(Spec(nodes=nodes))
    path = (folder / "netns").__truediv__
    for name in (underlay.UNDERLAY, *(host.name for host in plan.hosts)):
        stack.callback(netns.delete, path(name))
    underlay.build(plan, path)
    return plan, [path(host.name) for host in plan.nodes]


def cgroups(stack: ExitStack) -> Path:
    """A branch of the cgroup tree, until ``stack`` ends; so do the processes in it."""
    group = cgroup2() / f"tulle-bench-{uuid4().hex}"
    group.mkdir()
    stack.callback(cgroup.remove, group)
    stack.callback(cgroup.kill, group)
    return group


def one_wire(folder: Path, stack: ExitStack, nodes: int = 1) -> tuple[Topology, list[Path]]:
    """A node, and its router at the other end of its uplink's wire, where no bridge and no other host is."""
    assert nodes == 1
    plan = topology(Spec(nodes=nodes))
    host = plan.nodes[0]
    router, node = (
        namespaces.make(folder / "netns" / name, stack) for name in (underlay.UNDERLAY, host.name)
    )
    namespaces.ip(router, [f"link add eth0 type veth peer name eth0 netns {node}"])
    addresses = (f"address add {gateway} dev eth0" for gateway in host.gateways)
    namespaces.ip(router, [*addresses, "link set eth0 up"])
    namespaces.ip(node, [line for line in underlay.host_commands(host) if line != "link set lo up"])
    return plan, [node]


def cluster(folder: Path, stack: ExitStack, nodes: int, *flags: str, lay: Wires = wires) -> list[Node]:
    """Nodes that are ready for Pods, until ``stack`` ends; ``flags`` are their agents'."""
    plan, paths = lay(folder, stack, nodes)
    bpffs = folder / "bpf"
    bpffs.mkdir()
    libc.mount("bpf", bpffs, "bpf")
    stack.callback(libc.umount, bpffs)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(NO_API)
    groups = cgroups(stack)
    made = []
    for host, path in zip(plan.nodes, paths, strict=True):
        _write_snapshot(folder / host.name / "state", plan.nodes)
        group = groups / host.name
        group.mkdir()
        node = Node(host, path, group, folder / host.name, stack)
        node.start(bpffs / host.name, kubeconfig, *flags)
        made.append(node)
    return made


def _write_snapshot(state: Path, hosts: Sequence[Host]) -> None:
    state.mkdir(parents=True)
    (state / "nodes.json").write_text(json.dumps([node_object(host) for host in hosts]))


def node_object(host: Host) -> dict[str, Any]:
    """The Node that the API has of a host."""
    return {
        "metadata": {"name": host.name},
        "spec": {"podCIDRs": [str(cidr) for cidr in host.pod_cidrs]},
        "status": {"addresses": [{"type": "InternalIP", "address": str(a.ip)} for a in host.addresses]},
    }


def memory(pid: int) -> tuple[float, float]:
    """Resident and proportional size of a process, in MB (10^6 bytes)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}
    return sizes["Rss"] * 1024e-6, sizes["Pss"] * 1024e-6
