"""Brings a lab up: wires, then the API server and the controller, then each node's agent, DNS and kubelet."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import aiohttp
import msgspec

from tulle.errors import LabError
from tulle.kernel import libc, mounts
from tulle.kube.client import Client
from tulle.kube.config import load_kubeconfig
from tulle.kube.informer import Informer
from tulle.kube.resources import NODE
from tulle.lab import access, cgroup, names, prerequisites, processes, resources, underlay
from tulle.lab.down import down
from tulle.lab.paths import Paths
from tulle.lab.processes import Process
from tulle.lab.readiness import dns_ready
from tulle.lab.spec import Spec, Topology, topology
from tulle.lab.starter import API_PORT, API_SERVER, CONTROLLER, RESOLVER, Starter
from tulle.model.objects import Node

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
        self.start = Starter(paths, spec, self.topology)

    def client(self) -> Client:
        """As the administrator."""
        return Client(load_kubeconfig(self.paths.kubeconfig))

    async def bring_up(self, step: Step) -> None:
        """Whatever of it is not there yet. Raises ``LabError``."""
        if not self.paths.facts.exists():
            with step("Lay the wires"):
                self._lay_wires()
        alive = {p.title for p in processes.recorded(self.paths) if p.alive()}
        with step("Start the API server and the controller"):
            if f"{API_SERVER} of {underlay.UNDERLAY}" not in alive:
                server, port = self.start.api_server()
                await _unless_one_dies(_answers(port), [server])
                access.write_kubeconfigs(self.paths, self.topology, API_PORT)
            async with self.client() as client:
                await names.offer_dns(client, self.topology)
                await resources.apply(client, self.topology)
            if f"{CONTROLLER} of {underlay.UNDERLAY}" not in alive:
                self.start.controller()
        with step("Start agents, DNS and kubelets"):
            if f"{RESOLVER} of {self.topology.world.name}" not in alive:
                self.start.resolver()
            for node in self.topology.nodes:
                for start in (self.start.agent, self.start.dns, self.start.kubelet):
                    if f"{start.__name__} of {node.name}" not in alive:
                        start(node)
        with step("Nodes become Ready"):
            await _unless_one_dies(self._nodes_ready(), processes.recorded(self.paths))
        with step("Names resolve on every node"):
            await _unless_one_dies(self._dns_ready(), processes.recorded(self.paths))

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

    async def _dns_ready(self) -> None:
        """At each of its addresses on each node. Raises ``LabError`` that names the first that is not."""
        asking = {
            (node.name, address): asyncio.create_task(
                dns_ready(self.paths.netns(node.name), address, names.METRICS_PORT)
            )
            for node in self.topology.nodes
            for address in self.topology.dns
        }
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.gather(*asking.values())
        except TimeoutError as error:
            node, address = next(at for at, task in asking.items() if task.cancelled() or not task.done())
            logs = [p.tail() for p in processes.recorded(self.paths) if (p.host, p.what) == (node, "dns")]
            what = f"DNS of {node} is not ready at {address} after {_PATIENCE:.0f} s"
            raise LabError("\n".join([f"{what}; its log ends with:", *logs])) from error

    def _why_unready(self, missing: Sequence[str]) -> str:
        logs = [p for p in processes.recorded(self.paths) if p.host == missing[0] and p.what == "agent"]
        tail = logs[0].tail() if logs else ""
        names = ", ".join(missing)
        return f"not Ready after {_PATIENCE:.0f} s: {names}; the agent of {missing[0]} said last:\n{tail}"


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
