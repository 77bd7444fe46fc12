"""Brings a lab up: wires, then the API server, then on every node its agent and its kubelet."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from tulle.errors import LabError
from tulle.kernel import libc, mounts, netns
from tulle.kube.client import Client
from tulle.kube.config import load_kubeconfig
from tulle.kube.informer import Informer
from tulle.kube.resources import NODE
from tulle.lab import access, cgroup, names, prerequisites, processes, underlay
from tulle.lab.down import down
from tulle.lab.kubelet.config import KubeletConfig
from tulle.lab.paths import Paths
from tulle.lab.processes import Process
from tulle.lab.spec import CLUSTER_DOMAIN, Host, Spec, Topology, topology
from tulle.model.objects import Node

API_PORT: Final = 6443
DNS_PORT: Final = 53
API_SERVER: Final = "apiserver"
RESOLVER: Final = "resolver"
ZONE: Final = "topology.kubernetes.io/zone"
_PATIENCE: Final = 60.0
T = TypeVar("T")
Step = Callable[[str], AbstractContextManager[None]]
"""Shows that something is going on, and for how long it did."""


async def up(spec: Spec, step: Step) -> None:
    """A lab with all nodes Ready. One that is there already is mended: what died is started again.

    Raises ``LabError`` and leaves nothing behind when that cannot be done.
    """
    paths = Paths(spec.name)
    prerequisites.check()
    lab = existing(paths)
    if lab and lab.spec != spec:
        raise LabError(
            f"lab {spec.name} is up with other settings; end it first: tulle lab down --name {spec.name}"
        )
    with contextlib.ExitStack() as undo:
        if lab is None:
            down(paths)
            undo.callback(down, paths)
        await _cancelled_by_sigterm(Lab(paths, spec).bring_up(step))
        paths.complete.touch()
        undo.pop_all()


def existing(paths: Paths) -> Lab | None:
    """The lab of that name, if it was ever brought up completely."""
    if not paths.complete.exists():
        return None
    return Lab(paths, msgspec.json.decode(paths.facts.read_bytes(), type=Spec))


def opened(name: str) -> Lab:
    """Raises ``LabError`` when there is none."""
    lab = existing(Paths(name))
    if lab is None:
        option = "" if name == "default" else f" --name {name}"
        raise LabError(f"there is no lab {name}; start one with: tulle lab up{option}")
    return lab


async def _cancelled_by_sigterm(work: Awaitable[None]) -> None:
    """So that a terminated command undoes what it has begun, as an interrupted one does."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError as error:
        raise LabError("stopped before the lab was up") from error
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


class Lab:
    """What is to be done with a lab that exists, or is about to."""

    def __init__(self, paths: Paths, spec: Spec) -> None:
        self.paths = paths
        self.spec = spec
        self.topology: Topology = topology(spec)

    def client(self) -> Client:
        """As the administrator."""
        return Client(load_kubeconfig(self.paths.kubeconfig))

    async def bring_up(self, step: Step) -> None:
        """Whatever of it is not there yet. Raises ``LabError``."""
        if not self.paths.facts.exists():
            with step("Lay the wires"):
                self._lay_wires()
        alive = {p.title for p in processes.recorded(self.paths) if p.alive()}
        with step("Start the API server"):
            if f"{API_SERVER} of {underlay.UNDERLAY}" not in alive:
                server, port = self.start_api_server()
                await _unless_one_dies(_answers(port), [server])
                access.write_kubeconfigs(self.paths, self.topology, API_PORT)
        if f"{RESOLVER} of {self.topology.world.name}" not in alive:
            self.start_resolver()
        with step("Start agents and kubelets"):
            for node in self.topology.nodes:
                for what, start in (("agent", self.start_agent), ("kubelet", self.start_kubelet)):
                    if f"{what} of {node.name}" not in alive:
                        start(node)
        with step("Nodes become Ready"):
            await _unless_one_dies(self._nodes_ready(), processes.recorded(self.paths))

    def _lay_wires(self) -> None:
        paths = self.paths
        mounts.private_tmpfs(paths.run)
        paths.facts.write_bytes(msgspec.json.encode(self.spec))
        paths.cgroup.mkdir()
        paths.bpffs.mkdir()
        libc.mount("bpf", paths.bpffs, "bpf")
        paths.images.mkdir()
        underlay.build(self.topology, paths.netns)
        for node in self.topology.nodes:
            names.write_node_files(paths.node(node.name), node, self.topology.world)
        access.write_tokens(paths, self.topology)

    def start_api_server(self) -> tuple[Process, int]:
        """Also its port on the machine's loopback address.

        Its sockets listen before it runs, so that whoever comes early waits instead of being refused.
        """
        port = 0
        if self.paths.kubeconfig.exists():
            port = urlsplit(load_kubeconfig(self.paths.kubeconfig).server).port or 0
        outer = socket.create_server(("127.0.0.1", port), backlog=512)
        with netns.entered(self.paths.netns(underlay.UNDERLAY)):
            inner = [_listen(str(address)) for address in self.topology.api]
        listeners = [each.fileno() for each in (outer, *inner)]
        port = outer.getsockname()[1]
        names = [f"--san={address}" for address in self.topology.api]
        command = [
            *(*processes.TULLE, "apiserver", f"--state-dir={self.paths.apiserver}", *names),
            *(f"--kubeconfig-out={self.paths.kubeconfig}", f"--token-file={self.paths.tokens}"),
            *(f"--listen-fd={fd}" for fd in listeners),
        ]
        process = processes.start(self.paths, underlay.UNDERLAY, API_SERVER, command, None, listeners)
        for each in (outer, *inner):
            each.close()
        return process, port

    def start_resolver(self) -> Process:
        """That of *world*. Its sockets are there before it runs, so that no query is lost."""
        world = self.topology.world
        with netns.entered(self.paths.netns(world.name)):
            sockets = [each for address in world.far for each in _resolver_sockets(str(address.ip))]
        listeners = [each.fileno() for each in sockets]
        command = [*processes.TULLE, "lab", "resolver", *(f"--fd={fd}" for fd in listeners)]
        command += [f"--address={address.ip}" for address in world.addresses]
        process = processes.start(self.paths, world.name, RESOLVER, command, None, listeners)
        for each in sockets:
            each.close()
        return process

    def start_agent(self, node: Host) -> Process:
        paths = self.paths.node(node.name)
        paths.bpffs.mkdir(exist_ok=True)
        settings = {
            "nodeName": node.name,
            "kubeconfig": str(paths.kubeconfig),
            "stateDir": str(paths.run / "agent" / "state"),
            "runDir": str(paths.run / "agent" / "run"),
            "bpffs": str(paths.bpffs),
            "cniConfDir": str(paths.cni_conf),
            "cniBinDir": str(paths.cni_bin),
            "routing": self.spec.routing,
        }
        paths.agent_settings.write_bytes(msgspec.yaml.encode(settings))
        command = [*processes.TULLE, "agent", f"--config={paths.agent_settings}"]
        return processes.start(self.paths, node.name, "agent", command, self.paths.netns(node.name))

    def start_kubelet(self, node: Host) -> Process:
        paths = self.paths.node(node.name)
        config = KubeletConfig(
            node=node.name,
            lab=self.spec.name,
            kubeconfig=str(paths.kubeconfig),
            folder=str(paths.run / "kubelet"),
            socket=str(paths.kubelet_socket),
            images=str(self.paths.images),
            cgroup=str(paths.cgroup),
            netns=str(self.paths.netns(node.name)),
            cni_conf=str(paths.cni_conf),
            cni_bin=str(paths.cni_bin),
            addresses=tuple(str(address.ip) for address in node.addresses),
            pod_cidrs=tuple(str(cidr) for cidr in node.pod_cidrs),
            hosts=str(paths.hosts),
            resolv_conf=str(paths.resolv_conf),
            cluster_dns=tuple(map(str, self.topology.dns)),
            cluster_domain=CLUSTER_DOMAIN,
            labels={ZONE: node.zone},
        )
        paths.kubelet_config.write_bytes(msgspec.json.encode(config))
        command = [*processes.TULLE, "kubelet", str(paths.kubelet_config)]
        return processes.start(self.paths, node.name, "kubelet", command, self.paths.netns(node.name))

    def enter(self, host: str, command: Sequence[str]) -> NoReturn:
        """Becomes ``command`` on that host, in a cgroup that ends with the lab. Raises ``LabError``."""
        names = [each.name for each in self.topology.hosts]
        if host not in names:
            raise LabError(f"there is no {host}; the lab has {', '.join(names)}")
        group = self.paths.cgroup / host / "shell"
        group.mkdir(parents=True, exist_ok=True)
        os.environ["KUBECONFIG"] = str(self.paths.inner_kubeconfig)
        os.environ["TULLE_CONFIG"] = str(self.paths.node(host).agent_settings)
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        line = ["nsenter", f"--net={self.paths.netns(host)}", *cgroup.JOIN, str(group), *command]
        os.execvp(line[0], line)

    async def _nodes_ready(self) -> None:
        wanted = {node.name for node in self.topology.nodes}
        changed = asyncio.Event()
        async with self.client() as client:
            nodes = Informer(client, NODE)
            nodes.subscribe(lambda _: changed.set())
            following = asyncio.create_task(nodes.run(), name="nodes")
            try:
                async with asyncio.timeout(_PATIENCE):
                    while missing := wanted - {
                        n.metadata.name for n in nodes.objects.values() if ready_node(n)
                    }:
                        await changed.wait()
                        changed.clear()
            except TimeoutError as error:
                raise LabError(self._why_unready(sorted(missing))) from error
            finally:
                following.cancel()

    def _why_unready(self, missing: Sequence[str]) -> str:
        logs = [p for p in processes.recorded(self.paths) if p.host == missing[0] and p.what == "agent"]
        tail = logs[0].tail() if logs else ""
        names = ", ".join(missing)
        return f"not Ready after {_PATIENCE:.0f} s: {names}; the agent of {missing[0]} said last:\n{tail}"


def _listen(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, API_PORT), family=family, backlog=512)


def _resolver_sockets(address: str) -> tuple[socket.socket, socket.socket]:
    """For UDP and TCP."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.bind((address, DNS_PORT))
    return datagrams, socket.create_server((address, DNS_PORT), family=family, backlog=512)


async def _answers(port: int) -> None:
    """Returns once ``/readyz`` does. The certificate is not known yet, and nothing is sent or believed."""
    async with (
        asyncio.timeout(_PATIENCE),
        aiohttp.ClientSession() as session,
        session.get(f"https://127.0.0.1:{port}/readyz", ssl=False) as answer,
    ):
        answer.raise_for_status()


def ready_node(node: Node) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)


async def _unless_one_dies(work: Awaitable[T], watched: Sequence[Process]) -> T:
    """Raises ``LabError`` with the log's end when one of the processes ends first."""
    task = asyncio.ensure_future(work)
    deaths = {processes.watch(process.pid): process for process in watched}
    first: set[asyncio.Future[Any]] = {task, *deaths}
    try:
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        for death, process in deaths.items():
            if death.done():
                raise LabError(f"{process.title} ended too early; its log ends with:\n{process.tail()}")
        return await task
    finally:
        task.cancel()
        for death in deaths:
            death.cancel()
