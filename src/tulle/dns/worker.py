"""The worker's composition root: ``python -m tulle.dns.worker SETTINGS DESCRIPTORS``, both JSON.

Started by the supervisor, whose sockets it inherits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import msgspec
import uvloop

from tulle import logs
from tulle.dns.cluster.catalog import Catalog
from tulle.dns.cluster.following import Follower
from tulle.dns.cluster.service_records import Options
from tulle.dns.cluster.snapshot import Snapshot
from tulle.dns.cluster.zone import Zone
from tulle.dns.configuration.applied import Configuration
from tulle.dns.names import to_wire
from tulle.dns.resolver import Resolver
from tulle.dns.settings import Settings
from tulle.dns.statistics import Statistics
from tulle.dns.supervisor import Sockets, accept_successor
from tulle.dns.tcp import TcpListener
from tulle.dns.udp import UdpListener
from tulle.kube.client import Client
from tulle.kube.config import resolve
from tulle.telemetry.http import Page, Reply, Server, pages

log = logging.getLogger(__name__)

FIRST_WAIT = {True: 1.0, False: 2.0}
"""Seconds for which queries wait for the API, with and without a snapshot, as that may lack a new Service.
Then they are answered from it, or with SERVFAIL."""

TAKE_OVER_WAIT = 3.0
"""The same, while a predecessor still answers."""

NOT_READY = Reply(503, "waiting for the API\n")

_LOOK = 0.02
DRAIN_LOOKS = 250
"""When told to stop: seconds between two looks whether the last answer is sent, and how many."""


class _Ended(Exception):
    """Ends the tasks that would go on for ever."""


class Worker:
    """Answers from ``go`` to ``stop``; lives until the last answer is sent."""

    def __init__(self, settings: Settings, sockets: Sockets, client: Client) -> None:
        self._control = sockets.pop("control")
        self._rendezvous = sockets.pop("rendezvous")
        self._sockets = sockets
        state = Path(settings.state_dir)
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        zone = to_wire(settings.zone)
        self._statistics = stats = Statistics(settings.port, zone)
        self._configuration = Configuration(settings, client, stats.registry)
        own = tuple(map(ip_address, settings.listen))
        self._catalog = catalog = Catalog(Zone(Options(zone), own))
        self._follower = Follower(client, catalog, Snapshot(state), stats.programming)
        self._resolver = Resolver(catalog.zone, self._configuration.forwarder, stats)
        self._configuration.serve(self._resolver, catalog, own)
        self._udp = [UdpListener(each, self._resolver, stats) for each in _of_kind("udp", sockets)]
        self._tcp = [TcpListener(each, self._resolver, stats) for each in _of_kind("tcp", sockets)]
        self._go, self._stop = asyncio.Event(), asyncio.Event()
        self._successor: socket.socket | None = None

    async def run(self) -> None:
        """Returns after ``stop``; raises what a task failed with."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._control.setblocking(False)
        loop.add_reader(self._control.fileno(), self._hear)
        self._follower.load()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._follower.start(tasks)
                self._configuration.start(tasks)
                tasks.create_task(self._get_ready(), name="get ready")
                tasks.create_task(self._close_idle(), name="close idle connections")
                await self._serve_pages()
                await self._serve()
                await self._end()
                raise _Ended
        except* _Ended:
            await self._configuration.forwarder.close()

    async def _get_ready(self) -> None:
        await self._follower.ready.wait()
        self._resolver.ready = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TAKE_OVER_WAIT):
                await self._follower.synced.wait()
        self._say(b"ready")

    async def _serve(self) -> None:
        """Each query waits in its socket until we may read, and, for a while, until we know the answer."""
        await _first(self._go, self._stop)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WAIT[self._follower.ready.is_set()]):
                await _first(self._follower.synced, self._stop)
        if self._stop.is_set():
            return
        for udp in self._udp:
            udp.start()
        for tcp in self._tcp:
            await tcp.start()
        log.info("answering on %s", ", ".join(name for name in self._sockets if not name.startswith("http")))
        await self._stop.wait()

    async def _end(self) -> None:
        for udp in self._udp:
            udp.stop()
        for tcp in self._tcp:
            tcp.stop()
        self._say(b"stopped")
        for _ in range(DRAIN_LOOKS):
            if not self._resolver.open and not any(tcp.open for tcp in self._tcp):
                return
            await asyncio.sleep(_LOOK)

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for tcp in self._tcp:
                tcp.close_idle(asyncio.get_running_loop().time())

    async def _serve_pages(self) -> None:
        shown: dict[str, Page] = {
            "/metrics": self._metrics,
            "/health": lambda: Reply(200, "OK"),
            "/ready": lambda: Reply(200, "OK") if self._resolver.ready else NOT_READY,
        }
        server = Server()
        for sock in _of_kind("http", self._sockets):
            await server.serve(sock.dup(), pages(shown))

    def _metrics(self) -> Reply:
        for kind, count in zip(("Service", "EndpointSlice", "Namespace"), self._catalog.size, strict=True):
            self._statistics.objects.set(count, kind)
        return Reply(200, self._statistics.registry.text())

    def _say(self, word: bytes) -> None:
        for peer in (self._control, self._successor):
            if peer:
                with contextlib.suppress(OSError):
                    peer.send(word)

    def _hear(self) -> None:
        """The end of the supervisor is not ours."""
        try:
            said = self._control.recv(16)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if said == b"go":
            self._go.set()
        elif said == b"stop":
            self._stop.set()
        elif not said:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._control.fileno())
            loop.add_reader(self._rendezvous.fileno(), self._accept)
            log.warning("the supervisor is gone; answering goes on, and a new `tulle dns` can take over")
            self._go.set()

    def _accept(self) -> None:
        """In the supervisor's place."""
        successor = accept_successor(self._rendezvous, self._sockets)
        if successor:
            successor.setblocking(False)
            asyncio.get_running_loop().add_reader(successor.fileno(), self._hear_successor, successor)

    def _hear_successor(self, successor: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(successor.fileno())
        if successor.recv(16) == b"take":
            self._successor = successor
            loop.remove_reader(self._rendezvous.fileno())
            self._stop.set()
        else:
            successor.close()


def _of_kind(kind: str, sockets: Sockets) -> Iterator[socket.socket]:
    return (sock for name, sock in sockets.items() if name.startswith(kind))


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


async def run(settings: Settings, sockets: Sockets) -> None:
    """Raises ``ConfigError`` when it cannot start."""
    async with Client(resolve(Path(settings.kubeconfig) if settings.kubeconfig else None)) as client:
        await Worker(settings, sockets, client).run()


def main() -> None:
    """Exit code 0 after an orderly end."""
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    descriptors = msgspec.json.decode(sys.argv[2], type=dict[str, int])
    sockets = {name: socket.socket(fileno=descriptor) for name, descriptor in descriptors.items()}
    logs.to_stderr(settings.log_level)
    uvloop.run(run(settings, sockets))


if __name__ == "__main__":
    main()
