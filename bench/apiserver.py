"""``tulle apiserver``: creates a second, a long list, and how soon many watchers hear of a write.

Everything goes over TLS, with a client certificate, from a process of its own.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import uvloop

from bench import namespaces
from bench.statistics import Figure
from tulle.errors import ApiUnreachable, LabError
from tulle.kube.config import load_kubeconfig
from tulle.kube.transport import Transport

_PODS = 10_000
_CLIENTS = 16
_WATCHERS = 100
_EVENTS = 50
_START_SECONDS = 30.0
_LISTED, _WATCHED = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/kube-public/pods"


def measure(folder: Path, rounds: int, tick: Callable[[str], None]) -> list[Figure]:
    """Each round creates its share of 10,000 Pods; the lists and the watches come once all are there."""
    return uvloop.run(_measure(folder, rounds, tick))


async def _measure(folder: Path, rounds: int, tick: Callable[[str], None]) -> list[Figure]:
    creates, lists, typical, worst = [], [], [], []
    async with _server(folder) as api:
        await _create_node(api)
        share = -(-_PODS // rounds)
        for number in range(rounds):
            tick(f"creating Pods {number * share + 1} to {(number + 1) * share}")
            creates.append(await _creates_per_second(api, range(number * share, (number + 1) * share)))
        for number in range(rounds):
            tick(f"lists and watches, round {number + 1} of {rounds}")
            lists.append(await _list_seconds(api))
            delays = await _watch_delays(api, f"round-{number}")
            typical.append(statistics.median(delays))
            worst.append(max(delays))
    return [
        Figure("apiserver", f"creates of Pods, {_CLIENTS} clients", "1/s", tuple(creates), 800),
        Figure("apiserver", f"list of {share * rounds:,} Pods", "s", tuple(lists), 0.5, "lower"),
        Figure(
            "apiserver", f"write to the last of {_WATCHERS} watchers, p50", "ms", tuple(typical), 50, "lower"
        ),
        Figure(
            "apiserver",
            f"write to the last of {_WATCHERS} watchers, longest",
            "ms",
            tuple(worst),
            50,
            "lower",
        ),
    ]


@contextmanager
def _process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The API server on a free port of the loopback device; it writes ``kubeconfig`` into the folder."""
    command = [sys.executable, "-m", "tulle", "apiserver", f"--state-dir={folder / 'state'}"]
    command.append(f"--kubeconfig-out={folder / 'kubeconfig'}")
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, _log(folder).open("wb") as log:
        fd = listener.fileno()
        process = subprocess.Popen([*command, f"--listen-fd={fd}"], pass_fds=[fd], stdout=log, stderr=log)
    try:
        yield process
    finally:
        namespaces.end(process)


def _log(folder: Path) -> Path:
    return folder / "apiserver.log"


@asynccontextmanager
async def _server(folder: Path) -> AsyncIterator[Transport]:
    """A running API server: the administrator's way to it."""
    with _process(folder) as process:
        await _kubeconfig_written(folder, process)
        transport = Transport(load_kubeconfig(folder / "kubeconfig"))
        await transport.open()
        try:
            await transport.call("GET", "/readyz")
            yield transport
        finally:
            await transport.close()


async def _kubeconfig_written(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """The socket listens already; a client only needs to know with which certificate."""
    async with asyncio.timeout(_START_SECONDS):
        while not (folder / "kubeconfig").exists():
            if process.poll() is not None:
                raise LabError(f"tulle apiserver does not start: {_log(folder).read_text()}")
            await asyncio.sleep(0.02)


async def _create_node(api: Transport) -> None:
    """The node that all Pods name: they need no scheduler, and nobody takes them for lost."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bench"}}
    await api.call("POST", "/api/v1/nodes", content=msgspec.json.encode(node))


def _pod(name: str) -> bytes:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench", "tier": "web"}},
        "spec": {
            "nodeName": "bench",
            "containers": [
                {
                    "name": "main",
                    "image": "registry.example/web:1.2.3",
                    "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                    "env": [{"name": "MODE", "value": "production"}],
                    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                }
            ],
        },
    }
    return msgspec.json.encode(pod)


async def _creates_per_second(api: Transport, numbers: range) -> float:
    todo = (_pod(f"pod-{number}") for number in numbers)

    async def client(todo: Iterator[bytes]) -> None:
        for pod in todo:
            await api.call("POST", _LISTED, content=pod)

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(_CLIENTS):
            tasks.create_task(client(todo), name=f"client {number}")
    return len(numbers) / (time.perf_counter() - begin)


async def _list_seconds(api: Transport) -> float:
    """Until the last byte of the whole list in one answer; it is not decoded."""
    begin = time.perf_counter()
    await api.call("GET", _LISTED)
    return time.perf_counter() - begin


class _Watchers:
    """Counts the events that each of many watchers has seen."""

    def __init__(self, api: Transport, version: str) -> None:
        self._api = api
        self._query = {"watch": "true", "resourceVersion": version}
        self._behind = 0
        self._all_seen = asyncio.Event()

    def expect(self) -> None:
        """One more event is to come to everyone."""
        self._behind = _WATCHERS
        self._all_seen.clear()

    async def all_seen(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            await self._all_seen.wait()

    async def watch(self) -> None:
        """One watcher; each event is one line."""
        async with self._api.stream(_WATCHED, self._query, _START_SECONDS) as chunks:
            async for chunk in chunks:
                self._behind -= chunk.count(b"\n")
                if self._behind == 0:
                    self._all_seen.set()
        raise ApiUnreachable("a watch ended before the measurement did")


async def _watch_delays(api: Transport, prefix: str) -> list[float]:
    """Milliseconds from before each write is sent until the last watcher has its event."""
    empty = msgspec.json.decode(await api.call("GET", _WATCHED, {"limit": "1"}))
    watchers = _Watchers(api, empty["metadata"]["resourceVersion"])
    delays = []
    async with asyncio.TaskGroup() as tasks:
        watches = [
            tasks.create_task(watchers.watch(), name=f"watcher {number}") for number in range(_WATCHERS)
        ]
        for number in range(_EVENTS + 1):
            watchers.expect()
            begin = time.perf_counter()
            await api.call("POST", _WATCHED, content=_pod(f"{prefix}-{number}"))
            await watchers.all_seen()
            delays.append((time.perf_counter() - begin) * 1000)
        for watch in watches:
            watch.cancel()
    return delays[1:]  # the first one waited for the watches to be set up
