"""The composition root of ``tulle apiserver``: state folder, listeners, tasks, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from aiohttp import web

from tulle.apiserver import access, addresses, controllers, own_service
from tulle.apiserver.access import Authenticator
from tulle.apiserver.definitions import Definitions
from tulle.apiserver.own_service import Advertised
from tulle.apiserver.pki import Pki, write_secret
from tulle.apiserver.proxy import Kubelets
from tulle.apiserver.registry import Registry
from tulle.apiserver.routes import Api
from tulle.apiserver.service_allocation import NODE_PORTS, SERVICES, ServiceKeeper
from tulle.apiserver.service_upkeep import ServiceUpkeep
from tulle.apiserver.store import Store
from tulle.apiserver.tokens import TokenIssuer
from tulle.apiserver.writing import Options, Writer
from tulle.errors import ConfigError
from tulle.kube.client import Client
from tulle.kube.config import ClusterConfig
from tulle.kube.tls import Pem

log = logging.getLogger(__name__)

BODY_LIMIT = 3 * 1024 * 1024
STOP_SECONDS = 3.0
UPKEEP_SECONDS = 10.0
EVENT_LIFETIME = timedelta(hours=1)
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line gives.

    ``listen`` are (host, port), ``fds`` inherited listening sockets; ``advertise`` are the addresses for
    Service ``default/kubernetes``, with ``advertise_port``, and follow from the sockets where they are empty.
    """

    state_dir: Path
    listen: Sequence[tuple[str, int]]
    fds: Sequence[int] = ()
    names: Sequence[str] = ()
    kubeconfig: Path | None = None
    token_file: Path | None = None
    service_cidrs: Sequence[str] = ("10.96.0.0/16",)
    node_ports: range = NODE_PORTS
    advertise: Sequence[str] = ()
    advertise_port: int | None = None


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    known = access.read_tokens(settings.token_file) if settings.token_file else {}
    sockets = _sockets(settings)
    # The controllers are a client like any other; the sockets given may be in other network namespaces.
    sockets.append(socket.create_server(("127.0.0.1", 0)))
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.state_dir.chmod(0o700)
    store = Store(settings.state_dir / "state.db")
    try:
        writer = Writer(store, Registry(), {SERVICES: ServiceKeeper(store, settings.node_ports)})
        definitions = Definitions(writer)
        _begin(writer)
        advertised = _advertised(settings, sockets[:-1])
        services = ServiceUpkeep(writer, settings.service_cidrs, advertised)
        services.restore()
        await store.committed()
        hosts = [
            *(host for host, _ in settings.listen),
            *advertised.addresses,
            *own_service.cluster_ips(store),
        ]
        pki = Pki(settings.state_dir / "pki", [*settings.names, *hosts])
        token = secrets.token_urlsafe(32)
        known[token] = access.user("system:apiserver", "system:masters")
        who = Authenticator(known, TokenIssuer(_signing_key(settings.state_dir)))
        api = Api(writer, who, Kubelets(pki.client_context()))
        if settings.kubeconfig is not None:
            write_secret(settings.kubeconfig, pki.kubeconfig(_address(sockets[0])))
        async with _listening(api, sockets, pki):
            ca = Pem("cluster CA", inline=pki.authority.pem)
            own = ClusterConfig(server=_address(sockets[-1]), ca=ca, token=token)
            await _work(stop, writer, [definitions, services], own, pki.authority.pem.decode())
    finally:
        store.close()


async def _work(
    stop: asyncio.Event,
    writer: Writer,
    keepers: Sequence[Definitions | ServiceUpkeep],
    own: ClusterConfig,
    ca_pem: str,
) -> None:
    """Runs what works besides answering requests, until ``stop``."""
    async with Client(own) as client, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(controllers.run(client, ca_pem=ca_pem), name="controllers"),
            group.create_task(_upkeep(writer), name="upkeep"),
            *(group.create_task(each.run(), name=type(each).__name__.lower()) for each in keepers),
        ]
        await stop.wait()
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def _listening(api: Api, sockets: list[socket.socket], pki: Pki) -> AsyncIterator[None]:
    factory = partial(web.BaseRequest, loop=asyncio.get_running_loop(), client_max_size=BODY_LIMIT)
    server = web.Server(api.handle, request_factory=factory, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    context = pki.context()
    try:
        for each in sockets:
            await web.SockSite(runner, each, ssl_context=context, backlog=512).start()
            log.info("listening on %s", _address(each))
        yield
    finally:
        api.watches.stop()
        await runner.cleanup()


async def _upkeep(writer: Writer) -> None:
    """Events end after an hour, as in Kubernetes; the database's log is merged into it. Never returns."""
    kind = writer.registry.get("", "events")
    while True:
        await asyncio.sleep(UPKEEP_SECONDS)
        oldest = (datetime.now(UTC) - EVENT_LIFETIME).strftime("%Y-%m-%dT%H:%M:%SZ")
        for (namespace, name), record in list(writer.objects.scan(kind.stored)):
            if (record.obj.get("lastTimestamp") or record.obj["metadata"]["creationTimestamp"]) < oldest:
                writer.delete(kind, namespace, name, {}, Options())
        await writer.objects.checkpoint()


def _sockets(settings: Settings) -> list[socket.socket]:
    """Every listening socket; raises ConfigError for one that cannot be had."""
    found = [_inherited(fd) for fd in settings.fds]
    for host, port in settings.listen:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            found.append(socket.create_server((host, port), family=family, backlog=512))
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ConfigError(f"--listen {host}:{port}: {reason}") from error
    return found


def _inherited(fd: int) -> socket.socket:
    try:
        inherited = socket.socket(fileno=fd)
        listens = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ConfigError(f"--listen-fd {fd}: {error.strerror}; give a TCP socket that listens") from error
    if not listens:
        raise ConfigError(f"--listen-fd {fd}: this socket does not listen")
    return inherited


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _advertised(settings: Settings, listeners: Sequence[socket.socket]) -> Advertised:
    """What the settings say, else the first listener of each family that others can reach, and its port."""
    reachable: dict[str, tuple[str, int]] = {}
    for host, port, *_ in (each.getsockname() for each in listeners):
        if not addresses.special("", host):
            reachable.setdefault(addresses.family(host), (host, port))
    hosts = settings.advertise or [host for host, _ in reachable.values()]
    ports = [port for _, port in reachable.values()] + [each.getsockname()[1] for each in listeners]
    if not hosts:
        log.info(
            "Service default/kubernetes has no endpoint: no listener outside loopback, no --advertise-address"
        )
    return Advertised(hosts, settings.advertise_port or ports[0])


def _begin(writer: Writer) -> None:
    """The namespaces that every cluster has."""
    kind = writer.registry.get("", "namespaces")
    for name in NAMESPACES:
        if writer.objects.get(kind.stored, "", name) is None:
            writer.create(kind, "", {"metadata": {"name": name}}, Options())


def _signing_key(state_dir: Path) -> bytes:
    path = state_dir / "pki" / "service-accounts.key"
    if not path.exists():
        write_secret(path, secrets.token_bytes(32))
    return path.read_bytes()
