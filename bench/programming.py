"""From the API to the kernel: a cold start with many Services, single changes, and many of them.

The agent is the real one. When a change is in the kernel, its map says: it is read over and over.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import msgspec
import uvloop

from bench import nodes, objects
from bench.nodes import Node
from bench.objects import Object
from bench.replay import Replay
from bench.statistics import Better, Figure, percentile
from tulle.errors import KernelError, LabError
from tulle.kernel import libc
from tulle.model.address import to_bytes
from tulle.pod_to_pod.pinned import Pinned
from tulle.pod_to_service.entries import BACKEND_SIZE, Entries
from tulle.pod_to_service.plan import PROTOCOLS, Frontend

_SERVICES, _ENDPOINTS = 5_000, 10
_CHANGES = 200
_RATE, _SECONDS = 1_000, 3
_AT_ONCE = 10  # changes that are sent together to keep the rate
_PATIENCE = 60.0  # seconds
_SLICES = "endpointslices"

_FIGURES: dict[str, tuple[str, float | None, Better]] = {
    f"{_SERVICES:,} Services, {_SERVICES * _ENDPOINTS:,} endpoints, from the lists' last byte": (
        "s",
        1.0,
        "lower",
    ),
    "of it, from the agent's start": ("s", None, "lower"),
    "one endpoint changes, p50": ("ms", 5.0, "lower"),
    "one endpoint changes, p99": ("ms", 20.0, "lower"),
    f"{_RATE:,} changes a second, p50": ("ms", None, "lower"),
    f"{_RATE:,} changes a second, p99": ("ms", 20.0, "lower"),
    f"{_SERVICES:,} changes at once": ("1/s", _RATE, "higher"),
    "agent, resident": ("MB", 150.0, "lower"),
    "agent, proportional": ("MB", None, "lower"),
}


def measure(folder: Path, rounds: int, tick: Callable[[str], None]) -> list[Figure]:
    """Each round starts a new agent on a new node. Raises ``LabError``."""
    found: list[list[float]] = []
    for number in range(rounds):
        tick(f"round {number + 1} of {rounds}")
        with ExitStack() as stack:
            found.append(uvloop.run(_round(folder / str(number), stack)))
    return [
        Figure("programming", name, unit, values, target, better)
        for (name, (unit, target, better)), values in zip(
            _FIGURES.items(), zip(*found, strict=True), strict=True
        )
    ]


async def _round(folder: Path, stack: ExitStack) -> list[float]:
    """The figures, in the order of ``_FIGURES``."""
    random.seed(folder.name)
    async with _cluster(folder, stack) as (node, replay):
        begin = time.perf_counter()
        starting = asyncio.create_task(asyncio.to_thread(node.start, node.bpffs, folder / "kubeconfig"))
        table = await _Watched.opened(node)
        cold = await _until_complete(replay, table)
        whole = time.perf_counter() - begin
        await starting
        await replay.watching(_SLICES)
        changes = _Changes(replay, table)
        single = await changes.one_by_one(_CHANGES)
        steady = await changes.steadily(_RATE, _SECONDS)
        burst = await changes.at_once()
        resident, proportional = nodes.memory(node.agent.pid)
    return [
        cold,
        whole,
        statistics.median(single),
        percentile(single, 0.99),
        statistics.median(steady),
        percentile(steady, 0.99),
        burst,
        resident,
        proportional,
    ]


@asynccontextmanager
async def _cluster(folder: Path, stack: ExitStack) -> AsyncIterator[tuple[Node, Replay]]:
    """A node without an agent, and an API for it."""
    plan, [path] = nodes.wires(folder, stack, 1)
    bpffs = folder / "bpf"
    bpffs.mkdir()
    libc.mount("bpf", bpffs, "bpf")
    stack.callback(libc.umount, bpffs)
    [host] = plan.nodes
    node = Node(host, path, nodes.cgroups(stack), folder / host.name, stack)
    (folder / host.name / "state").mkdir(parents=True)
    node.bpffs = bpffs / host.name
    replay = Replay(
        {
            "nodes": [nodes.node_object(host)],
            "services": [objects.service(number, ("ipv4",)) for number in range(_SERVICES)],
            _SLICES: [_slice(number, 0) for number in range(_SERVICES)],
            "servicecidrs": [
                {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": [objects.CIDRS["ipv4"]]}}
            ],
        }
    )
    async with replay.serving(path):
        (folder / "kubeconfig").write_text(replay.kubeconfig)
        yield node, replay


def _slice(number: int, version: int) -> Object:
    """Each version has another first endpoint."""
    first = number * _ENDPOINTS
    addresses = [objects.pod_ip(first + i, "ipv4") for i in range(_ENDPOINTS)]
    if version:
        addresses[0] = objects.pod_ip(_SERVICES * _ENDPOINTS + version, "ipv4")
    return objects.endpoint_slice(number, "ipv4", addresses, version=str(1000 + version))


async def _until(done: Callable[[], bool], pause: float) -> None:
    """The kernel tells nobody: whoever waits for it looks every ``pause`` seconds."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            if done():
                return
            await asyncio.sleep(pause)


class _Watched:
    """The kernel's table, as a reader sees it."""

    def __init__(self, pinned: Pinned) -> None:
        self._entries = Entries(pinned.contract)
        self._frontends = pinned.open("frontends", pinned.contract.layout("lead").size)
        self._services = pinned.open("services", 4)
        self._backends = pinned.open("backends", BACKEND_SIZE)

    @classmethod
    async def opened(cls, node: Node) -> _Watched:
        """As soon as the agent has made it."""
        found: list[_Watched] = []

        def is_there() -> bool:
            with suppress(KernelError):
                found.append(cls(Pinned(node.bpffs)))
            return bool(found)

        await _until(is_there, 0.05)
        return found[0]

    def index(self, number: int) -> bytes | None:
        """A Service's index in ``services``; None if it is not there yet."""
        address = to_bytes(ip_address(objects.cluster_ip(number, "ipv4")))
        frontend = self._entries.frontend(Frontend(address, objects.PORT, PROTOCOLS["TCP"]))
        lead = self._frontends.get(frontend)
        return self._entries.number(self._entries.read_lead(lead).inside) if lead else None

    def word(self, index: bytes) -> bytes:
        """What changes when the Service does."""
        return self._services.get(index) or b""

    def counts(self) -> tuple[int, int]:
        """Frontends and backends."""
        entries = self._entries
        return len(self._frontends.items(entries.frontend_size)), len(self._backends.items(entries.slot_size))


async def _until_complete(replay: Replay, table: _Watched) -> float:
    """Seconds from the last byte of the lists until the Service that is planned last is in the kernel."""
    await _until(lambda: table.index(_SERVICES - 1) is not None, 0.0005)
    end = time.perf_counter()
    if (found := table.counts()) != (2 * _SERVICES, _ENDPOINTS * _SERVICES):
        raise LabError(f"the last Service is in the kernel, but there are {found} frontends and backends")
    return end - max(replay.listed["services"], replay.listed[_SLICES])


class _Changes:
    """Sends changes of single endpoints, and looks when they arrive."""

    def __init__(self, replay: Replay, table: _Watched) -> None:
        self._replay = replay
        self._table = table
        self._index = [table.index(number) or b"" for number in range(_SERVICES)]
        self._version = 0

    def _events(self, numbers: Sequence[int]) -> list[tuple[int, bytes]]:
        found = []
        for number in numbers:
            self._version += 1
            event = {"type": "MODIFIED", "object": _slice(number, self._version)}
            found.append((number, msgspec.json.encode(event) + b"\n"))
        return found

    async def one_by_one(self, count: int) -> list[float]:
        """Milliseconds that each takes."""
        delays = []
        for event in self._events(random.sample(range(_SERVICES), count)):
            delays += await self._send([[event]], 0)
            await asyncio.sleep(0.02)
        return delays

    async def steadily(self, rate: int, seconds: int) -> list[float]:
        """Milliseconds for each of so many changes a second, all of different Services."""
        events = self._events(random.sample(range(_SERVICES), rate * seconds))
        groups = [events[i : i + _AT_ONCE] for i in range(0, len(events), _AT_ONCE)]
        return await self._send(groups, _AT_ONCE / rate)

    async def at_once(self) -> float:
        """How many a second when each Service changes at once."""
        delays = await self._send([self._events(range(_SERVICES))], 0)
        return len(delays) / max(delays) * 1000

    async def _send(self, groups: Sequence[Sequence[tuple[int, bytes]]], interval: float) -> list[float]:
        """Milliseconds from before a change is sent until the kernel has it; they come in order."""
        waiting: deque[tuple[bytes, bytes, float]] = deque()
        delays: list[float] = []
        begin = time.perf_counter()
        async with asyncio.timeout(_PATIENCE):
            for turn, group in enumerate(groups):
                while time.perf_counter() < begin + turn * interval:
                    delays += self._arrived(waiting)
                    await asyncio.sleep(0)
                for number, _ in group:
                    index = self._index[number]
                    waiting.append((index, self._table.word(index), time.perf_counter()))
                await self._replay.tell(_SLICES, b"".join(event for _, event in group))
            while waiting:
                delays += self._arrived(waiting)
                await asyncio.sleep(0)
        return delays

    def _arrived(self, waiting: deque[tuple[bytes, bytes, float]]) -> list[float]:
        delays = []
        while waiting and self._table.word(waiting[0][0]) != waiting[0][1]:
            delays.append((time.perf_counter() - waiting.popleft()[2]) * 1000)
        return delays
