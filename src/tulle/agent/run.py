"""The agent's composition root: what there is, and which tasks keep it going."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tulle.agent import install
from tulle.agent.attachments import Attachments
from tulle.agent.calls import Calls
from tulle.agent.drops import logging_drops
from tulle.agent.external import External
from tulle.agent.health.checks import HealthChecks
from tulle.agent.health.freshness import Freshness, is_eligible
from tulle.agent.health.pages import Pages
from tulle.agent.health.progress import Progress
from tulle.agent.health.statistics import Statistics
from tulle.agent.host_ports.claims import HostPorts
from tulle.agent.monitor import LinkMonitor
from tulle.agent.node import ZONE, NodeReconciler, NotYet
from tulle.agent.report import Reporter
from tulle.agent.server import drain_queue, serving
from tulle.agent.services.clients import SocketChoice
from tulle.agent.services.pod_sockets import PodSockets
from tulle.agent.services.services import Services
from tulle.agent.services.table import ServiceTable
from tulle.agent.settings import Settings
from tulle.agent.snapshot import Snapshot
from tulle.errors import TulleError
from tulle.kernel import prerequisites
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.config import resolve
from tulle.kube.informer import Informer
from tulle.kube.resources import NODE
from tulle.model.objects import Node
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.programs import DatapathSettings
from tulle.pod_to_pod.store import AttachmentStore
from tulle.pod_to_pod.topology import Problem
from tulle.telemetry.http import Server

log = logging.getLogger(__name__)

_RETRY = 5.0  # seconds until what failed is tried again
_ROUND = 60.0  # seconds between two comparisons of the records with the kernel


async def run(settings: Settings) -> None:
    """Runs the agent of one node until SIGTERM or SIGINT. What it set up in the kernel stays.

    Raises ``PrerequisiteError``, ``ConfigError`` or ``KernelError`` when it cannot start.
    """
    prerequisites.require_root("loading eBPF programs and making links")
    prerequisites.require_kernel()
    prerequisites.require_command("nft", "masquerading towards the outside", "nftables")
    prerequisites.ensure_bpffs(Path(settings.bpffs))
    client = Client(resolve(Path(settings.kubeconfig) if settings.kubeconfig else None))
    agent = _Agent(settings, client)
    main = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, main.cancel if main else loop.stop)
    try:
        async with client:
            await agent.run()
    except asyncio.CancelledError:
        log.info("told to stop; Pods keep their network")


class _Agent:
    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        state = install.make_folder("stateDir", settings.state_dir)
        self._datapath = Datapath(
            Path(settings.bpffs),
            DatapathSettings(
                settings.overlay_vni,
                settings.overlay_port,
                settings.external_traffic,
                settings.flow_table_size,
            ),
        )
        self._changed = asyncio.Event()
        self._monitor = LinkMonitor(self._handle_gone, self._handle_disturbance)
        store = AttachmentStore(state)
        sockets = PodSockets(store, self._datapath)
        self._choice = SocketChoice(client, settings.node_name, settings.socket_services, sockets.choose)
        sockets.at_sockets = self._choice.at_sockets
        self._reporter = reporter = Reporter(client, settings.node_name)
        server, freshness, statistics = Server(), Freshness(), Statistics(self._datapath)
        client.observe(partial(statistics.requested, urlsplit(client.config.server).netloc))
        self._checks = HealthChecks(
            settings.node_name, server, reporter, lambda: freshness.healthy(time.monotonic())
        )
        self._pages = Pages(settings, server, statistics, freshness, self._is_eligible, self._changed.set)
        progress = Progress(settings.node_name, statistics, freshness, self._checks)
        self._table = ServiceTable(self._datapath, sockets.places, progress.reconciled)
        self._services = Services(client, settings, self._table, reporter, progress)
        services, slices = self._services.informers
        of_pods = Reporter(client, settings.node_name)  # each remembers what it told
        self._host_ports = HostPorts(
            store, self._table, self._choice.pods, services, of_pods, self._services.reserve
        )
        self._attachments = Attachments(store, self._datapath, self._monitor, sockets, self._host_ports)
        self._calls = Calls(self._attachments)
        self._reconciler = NodeReconciler(settings, self._datapath, self._attachments)
        self._snapshot = Snapshot(state)
        self._last_seen = self._snapshot.read()
        self._nodes: Informer[Node] = Informer(client, NODE)
        self._external = External(client, settings, self._datapath, self._nodes, services, slices)
        self._ready = False
        self._disturbed = False
        self._to_tell: tuple[list[Problem], bool] = [], False
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Never returns; the first failure of a task ends all of them."""
        install.install_plugin(self._settings)
        self._nodes.subscribe(self._handle_node)
        await self._start()
        async with AsyncExitStack() as stack:
            stack.callback(self._datapath.close)
            self._monitor.start()
            stack.callback(self._monitor.close)
            stack.enter_context(logging_drops(self._datapath))
            await stack.enter_async_context(serving(self._settings.socket, self._calls))
            await drain_queue(self._settings.queue, self._calls)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(self._nodes.run(), name="follow the nodes")
            tasks.create_task(self._follow(), name="reconcile the node")
            tasks.create_task(self._tell(), name="tell of the node")
            tasks.create_task(self._rounds(), name="compare records and kernel")
            tasks.create_task(self._pages.run(), name="listen for who asks for health and metrics")
            tasks.create_task(self._choice.pods.run(), name="follow the Pods of this node")
            self._table.start(tasks)
            self._host_ports.start(tasks, self._attachments.ask_pod)
            tasks.create_task(self._services.keep_own(), name="keep the node's own addresses")
            if self._settings.services:
                tasks.create_task(self._choice.namespaces.run(), name="follow the Namespaces")
                self._services.start(tasks)
                self._checks.start(tasks)
            else:
                self._services.remove()
            await self._external.start(tasks)

    async def _start(self) -> None:
        """With what was known when the last agent ended, Pods can be served before the API answers."""
        self._attachments.forget_unknown()
        if self._last_seen:
            await self._apply(self._last_seen, complete=False)

    async def _follow(self) -> None:
        """Until the first full list has come, links and addresses count with the nodes as last seen."""
        while True:
            self._changed.clear()
            complete = self._nodes.synced.is_set()
            nodes = list(self._nodes.objects.values()) if complete else self._last_seen
            done = await self._apply(nodes, complete)
            if complete:
                self._to_tell = [*self._reconciler.problems, *self._pages.problems], done
                self._news.set()
            if complete and done:
                self._snapshot.write(nodes)
            await self._next_change(None if done else _RETRY)

    async def _tell(self) -> None:
        """By itself: routes do not wait for an API that hangs."""
        while True:
            await self._news.wait()
            self._news.clear()
            problems, done = self._to_tell
            await self._reporter.problems(problems)
            node = self._nodes.objects.get(("", self._settings.node_name))
            if done and node:
                await self._reporter.network_available(node)

    async def _next_change(self, patience: float | None) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _apply(self, nodes: list[Node], complete: bool) -> bool:
        """Whether the kernel is as the nodes say; if not, STATUS and an Event tell why."""
        try:
            await self._reconciler.apply(nodes, complete)
            await self._pass_on()
        except NotYet as missing:
            log.info("waiting for %s", missing)
            if self._ready:
                self._calls.fault = f"waiting for {missing}"
            return False
        except (TulleError, OSError) as error:
            self._reconciler.problems.append(Problem(self._settings.node_name, str(error)))
            self._calls.fault = str(error)
            return False
        self._calls.fault = ""
        return True

    async def _pass_on(self) -> None:
        """What was found out about the node, to all that depends on it. Raises ``OSError``."""
        found = self._reconciler
        self._services.locate(found.zone, found.addresses, found.primary)
        self._host_ports.locate(found.addresses)
        self._external.locate(found)
        if self._disturbed or not self._ready:
            self._disturbed = False
            await self._attachments.reconcile()
        if not self._ready:
            install.write_conflist(self._settings)
            self._ready = True
            log.info("Pods can be connected")

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(_ROUND)
            await self._attachments.reconcile()
            await drain_queue(self._settings.queue, self._calls)
            self._changed.set()

    def _handle_gone(self, link: str) -> None:
        self._attachments.handle_gone(link)
        self._changed.set()

    def _handle_disturbance(self) -> None:
        """With an address of the node the kernel takes away the routes to Pods that name it as source."""
        self._disturbed = True
        self._changed.set()

    def _is_eligible(self) -> bool:
        """Before the API has told, it is as it was."""
        return not self._nodes.synced.is_set() or is_eligible(
            self._nodes.objects.get(("", self._settings.node_name))
        )

    def _handle_node(self, change: Change[Node]) -> None:
        """Most changes of a Node are heartbeats, which do not matter here."""
        if _relevant(change.old) != _relevant(change.new):
            self._changed.set()


def _relevant(node: Node | None) -> object:
    if node is None:
        return None
    cut_off = [c.status for c in node.status.conditions if c.type == "NetworkUnavailable"]
    return node.spec.pod_cidrs, node.status.addresses, cut_off, node.metadata.labels.get(ZONE)
