"""Nodes as network namespaces with real agents, Pods as network namespaces connected by real CNI calls.

The agents get their Node objects from the snapshot that an earlier agent would have left; no API is there.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

from tulle.kernel import libc, netns
from tulle.kernel.prerequisites import cgroup2
from tulle.lab import cgroup, underlay
from tulle.lab.spec import Host, Spec, topology
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.programs import DatapathSettings

ONE = Spec(nodes=1)
FLOWS = 1 << 14
"""Many nodes share this machine's memory."""
PLUGIN = Path("src/tulle/_native/tulle-cni").resolve()
NOBODY = """
apiVersion: v1
kind: Config
current-context: none
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: none, user: {token: none}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
"""


class Place:
    """A network namespace in which commands run, and a cgroup: that of a node, if not the machine's."""

    def __init__(self, path: Path, group: Path | None = None) -> None:
        self.path = path
        self.group = group or cgroup2()
        self.children: list[subprocess.Popen[str]] = []

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return enter(self.path, *cgroup.JOIN, str(self.group), *command, check=check)

    def popen(self, *command: str) -> subprocess.Popen[str]:
        line = ["nsenter", f"--net={self.path}", *cgroup.JOIN, str(self.group), *command]
        return subprocess.Popen(line, stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        """Ends what was started with ``popen`` and put among ``children``."""
        for child in self.children:
            child.kill()
            child.wait(10)
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    pipe.close()


class Pod(Place):
    """``result`` is what ADD answered, ``ips`` the addresses in it."""

    def __init__(self, path: Path, container_id: str, group: Path | None = None) -> None:
        super().__init__(path, group)
        self.container_id = container_id
        self.result: dict[str, Any] = {}

    @property
    def ips(self) -> list[str]:
        return [ip["address"].split("/")[0] for ip in self.result["ips"]]


def enter(path: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    line = ["nsenter", f"--net={path}", *command]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


class Node(Place):
    """A node with its agent; everything of it lies in ``folder``."""

    def __init__(self, host: Host, path: Path, group: Path, folder: Path, bpffs: Path) -> None:
        super().__init__(path, group)
        self.host = host
        self.name = host.name
        self.folder = folder
        self.bpffs = bpffs
        self.pods: list[Pod] = []
        self.agent: subprocess.Popen[bytes] | None = None
        self._datapath: Datapath | None = None

    @property
    def ips(self) -> list[str]:
        return [str(a.ip) for a in self.host.addresses]

    @property
    def datapath(self) -> Datapath:
        """The node's maps, opened once: that loads the programs, too, which takes the kernel a while."""
        if self._datapath is None:
            self._datapath = Datapath(self.bpffs, DatapathSettings(flow_table_size=FLOWS))
        return self._datapath

    def start_agent(self, *flags: str, wait: bool = True) -> None:
        """Returns when Pods can be connected, or at once."""
        conf = self.folder / "net.d"
        self._conflist.unlink(missing_ok=True)
        settings = {
            "kubeconfig": self.folder.parent / "kubeconfig",
            "node-name": self.name,
            "state-dir": self.folder / "state",
            "run-dir": self.folder / "run",
            "bpffs": self.bpffs,
            "cni-conf-dir": conf,
            "cni-bin-dir": self.folder / "bin",
            "cgroup": self.group,
            "flow-table-size": FLOWS,
        }
        command = [sys.executable, "-m", "tulle", "agent"]
        command += [*(f"--{name}={value}" for name, value in settings.items()), *flags]
        with (self.folder / "agent.log").open("ab") as log:
            line = ["nsenter", f"--net={self.path}", *command]
            self.agent = subprocess.Popen(line, stdout=log, stderr=log)
        if wait:
            self.wait_for_agent()

    def wait_for_agent(self) -> None:
        """Until Pods can be connected."""
        while not self._conflist.exists():
            self._await_agent()
        self.call("STATUS", wait=True)

    @property
    def _conflist(self) -> Path:
        """What an agent writes once it can serve; a look at it costs less than a call."""
        return self.folder / "net.d" / "10-tulle.conflist"

    def _await_agent(self) -> None:
        assert self.agent and self.agent.poll() is None, self.log()
        select.select([], [], [], 0.02)

    def kill_agent(self, number: int = signal.SIGKILL) -> None:
        if self.agent:
            self.agent.send_signal(number)
            self.agent.wait(30)
            self.agent = None

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def call(self, command: str, pod: Pod | None = None, wait: bool = False, **extra: Any) -> Any:
        """Calls the plugin as a runtime does; returns its output with ``exit`` as the exit code."""
        conf = {"cniVersion": "1.1.0", "name": "tulle", "type": "tulle-cni", **extra}
        conf["agentSocket"] = str(self.folder / "run" / "cni.sock")
        environment = {"CNI_COMMAND": command, "CNI_PATH": str(self.folder / "bin")}
        if pod:
            environment |= {
                "CNI_CONTAINERID": pod.container_id,
                "CNI_NETNS": str(pod.path),
                "CNI_IFNAME": "eth0",
                "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod.container_id}",
            }
        while True:
            done = subprocess.run(
                [PLUGIN], input=json.dumps(conf).encode(), env=environment, capture_output=True
            )
            answer = json.loads(done.stdout or "{}") | {"exit": done.returncode}
            if not wait or not done.returncode:
                return answer
            self._await_agent()

    def make_pod(self, name: str) -> Pod:
        """A new Pod without a network."""
        pod = Pod(self.folder / "pods" / name, f"{self.name}-{name}", self.group)
        netns.create(pod.path)
        self.pods.append(pod)
        pod.run("ip", "link", "set", "lo", "up")
        return pod

    def add(self, name: str, *ports: dict[str, Any]) -> Pod:
        """A new Pod, connected; ``ports`` are the runtime's ``portMappings``."""
        pod = self.make_pod(name)
        more = {"runtimeConfig": {"portMappings": ports}} if ports else {}
        pod.result = self.call("ADD", pod, **more)
        assert pod.result["exit"] == 0, pod.result
        return pod

    def remove_pods(self) -> None:
        """Ends all of them, and what was started on the node itself."""
        super().close()
        self.children.clear()
        for pod in self.pods:
            pod.close()
            self.call("DEL", pod)
            netns.delete(pod.path)
        self.pods.clear()

    def close(self) -> None:
        self.remove_pods()
        self.kill_agent()
        if self._datapath:
            self._datapath.close()


class Cluster:
    """Builds nodes below ``folder``; ``close`` takes away all that was built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.group = cgroup2() / f"tulle-test-{uuid4().hex}"
        self.nodes: list[Node] = []
        self._stack = ExitStack()

    def build(self, spec: Spec) -> None:
        plan = topology(spec)
        bpf = self.folder / "bpf"
        bpf.mkdir(parents=True)
        self._stack.callback(self._end_group)
        libc.mount("bpf", bpf, "bpf")
        self._stack.callback(libc.umount, bpf)
        for name in (underlay.UNDERLAY, *(h.name for h in plan.hosts)):
            self._stack.callback(netns.delete, self.netns(name))
        underlay.build(plan, self.netns)
        (self.folder / "kubeconfig").write_text(NOBODY)
        for host in plan.nodes:
            group = self.group / host.name
            group.mkdir(parents=True)
            node = Node(host, self.netns(host.name), group, self.folder / host.name, bpf / host.name)
            self._stack.callback(node.close)
            self.nodes.append(node)
            write_snapshot(node, plan.nodes)

    def start_agents(self, *flags: str) -> None:
        """All at once."""
        for node in self.nodes:
            node.start_agent(*flags, wait=False)
        for node in self.nodes:
            node.wait_for_agent()

    def netns(self, name: str) -> Path:
        return self.folder / "netns" / name

    def _end_group(self) -> None:
        cgroup.kill(self.group)
        cgroup.remove(self.group)

    def close(self) -> None:
        self._stack.close()


def write_snapshot(node: Node, hosts: Sequence[Host]) -> None:
    state = node.folder / "state"
    state.mkdir(parents=True, exist_ok=True)
    objects = [
        {
            "metadata": {"name": host.name},
            "spec": {"podCIDRs": [str(c) for c in host.pod_cidrs]},
            "status": {"addresses": [{"type": "InternalIP", "address": str(a.ip)} for a in host.addresses]},
        }
        for host in hosts
    ]
    (state / "nodes.json").write_text(json.dumps(objects))
