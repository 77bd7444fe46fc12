"""The composition root of ``tulle apiserver``: state folder, listeners, tasks, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web

from tulle.apiserver import access
from tulle.apiserver.access import Authenticator
from tulle.apiserver.pki import Pki, write_secret
from tulle.apiserver.proxy import Kubelets
from tulle.apiserver.registry import Registry
from tulle.apiserver.routes import Api
from tulle.apiserver.store import Store
from tulle.apiserver.tokens import TokenIssuer
from tulle.apiserver.writing import Options, Writer
from tulle.errors import ConfigError

log = logging.getLogger(__name__)

BODY_LIMIT = 3 * 1024 * 1024
STOP_SECONDS = 3.0
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line gives; ``listen`` are (host, port), ``fds`` listening sockets that were inherited."""

    state_dir: Path
    listen: Sequence[tuple[str, int]]
    fds: Sequence[int] = ()
    names: Sequence[str] = ()
    kubeconfig: Path | None = None
    token_file: Path | None = None


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.state_dir.chmod(0o700)
    sockets = _sockets(settings)
    pki = Pki(settings.state_dir / "pki", [*settings.names, *(host for host, _ in settings.listen if host)])
    store = Store(settings.state_dir / "state.db")
    registry = Registry()
    try:
        await _begin(store, Writer(store, registry))
        known = access.read_tokens(settings.token_file) if settings.token_file else {}
        internal = secrets.token_urlsafe(32)
        known |= {internal: access.user("system:apiserver", "system:masters")}
        api = Api(
            store, registry, Authenticator(known, TokenIssuer(_signing_key(settings.state_dir))), Kubelets()
        )
        await _run(settings, sockets, pki, api, store, stop)
    finally:
        store.close()


async def _run(
    settings: Settings, sockets: list[socket.socket], pki: Pki, api: Api, store: Store, stop: asyncio.Event
) -> None:
    factory = partial(web.BaseRequest, loop=asyncio.get_running_loop(), client_max_size=BODY_LIMIT)
    server = web.Server(api.handle, request_factory=factory, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    if settings.kubeconfig is not None:
        write_secret(settings.kubeconfig, pki.kubeconfig(_address(sockets[0])))
    context = pki.context()
    for each in sockets:
        await web.SockSite(runner, each, ssl_context=context, backlog=512).start()
        log.info("listening on %s", _address(each))
    try:
        await stop.wait()
    finally:
        api.watches.stop()
        await runner.cleanup()


def _sockets(settings: Settings) -> list[socket.socket]:
    """Every listening socket; raises ConfigError for one that cannot be had."""
    found = [socket.socket(fileno=fd) for fd in settings.fds]
    for host, port in settings.listen:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            found.append(socket.create_server((host, port), family=family, backlog=512))
        except OSError as error:
            raise ConfigError(f"--listen {host}:{port}: {error.strerror or error}") from error
    for each in found:
        each.setblocking(False)
    return found


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


async def _begin(store: Store, writer: Writer) -> None:
    """The namespaces that every cluster has."""
    kind = writer.registry.get("", "namespaces")
    for name in NAMESPACES:
        if store.get(kind.stored, "", name) is None:
            writer.create(kind, "", {"metadata": {"name": name}}, Options())
    await store.committed()


def _signing_key(state_dir: Path) -> bytes:
    path = state_dir / "pki" / "service-accounts.key"
    if not path.exists():
        write_secret(path, secrets.token_bytes(32))
    return path.read_bytes()
