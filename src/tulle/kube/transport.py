"""HTTP to one API server: credentials, TLS, timeouts, and the one place where aiohttp's errors are mapped."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import aiohttp

from tulle import __version__
from tulle.errors import ApiUnreachable
from tulle.kube.config import ClusterConfig
from tulle.kube.tls import TlsContexts
from tulle.kube.wire import body_error

CONNECT_SECONDS = 10.0
"""For TCP and TLS together."""
ANSWER_SECONDS = 30.0
"""The longest silence of the server within one ordinary request."""
DEAD_PEER_SECONDS = 30
"""How soon a stream notices that the other machine is gone without a word."""

Query = dict[str, str] | Sequence[tuple[str, str]]
Observer = Callable[[str, str, float], None]
"""Told of each request: its method, the answer's status, or ``<error>``, and seconds until it came."""


class Transport:
    """Requests with a path below the server's URL; each carries the credential that is valid just then."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._credentials = config.credentials()
        self._tls = TlsContexts(config.ca, verify=not config.insecure_skip_tls_verify)
        self._session: aiohttp.ClientSession | None = None
        self.observer: Observer | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            headers={"Accept": "application/json", "User-Agent": f"tulle/{__version__}"},
            timeout=_timeout(ANSWER_SECONDS),
            connector=aiohttp.TCPConnector(limit=0),
            trace_configs=[_observed(self.observer)] if self.observer else [],
        )

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        path: str,
        query: Query = (),
        content: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """The body of a successful answer."""
        headers = {"Content-Type": content_type} if content is not None else {}
        with self._mapped(path):
            options = await self._options(headers)
            async with self._live().request(
                method, self._config.server + path, params=query, data=content, **options
            ) as response:
                return await self._checked(response)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: Query, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The chunks of an answer that goes on and on; a silence of ``silence`` seconds is an error."""
        with self._mapped(path):
            options = await self._options({})
            async with self._live().get(
                self._config.server + path, params=query, timeout=_timeout(silence), **options
            ) as response:
                if response.status >= 300:
                    await self._checked(response)
                _notice_dead_peer(response)
                yield response.content.iter_any()

    @contextlib.asynccontextmanager
    async def websocket(
        self, path: str, query: Query, protocols: Sequence[str]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket on which one of ``protocols`` was agreed."""
        with self._mapped(path):
            options = await self._options({})
            try:
                async with self._live().ws_connect(
                    self._config.server + path, params=query, protocols=protocols, max_msg_size=0, **options
                ) as channel:
                    yield channel
            except aiohttp.WSServerHandshakeError as error:
                self._notice_status(error.status)
                raise body_error(error.status, f"{path} was refused".encode()) from error

    def _live(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with Client(…)`")
        return self._session

    async def _options(self, headers: dict[str, str]) -> dict[str, Any]:
        credential = await self._credentials.current()
        if credential.token:
            headers["Authorization"] = f"Bearer {credential.token}"
        options: dict[str, Any] = {"headers": headers, "proxy": self._config.proxy_url}
        if self._config.server.startswith("https:"):
            options["ssl"] = self._tls.current(credential.identity or self._config.identity)
            options["server_hostname"] = self._config.tls_server_name
        return options

    async def _checked(self, response: aiohttp.ClientResponse) -> bytes:
        body = await response.read()
        if response.status >= 300:
            self._notice_status(response.status)
            raise body_error(response.status, body)
        return body

    def _notice_status(self, status: int) -> None:
        if status == 401:
            self._credentials.invalidate()

    @contextlib.contextmanager
    def _mapped(self, path: str) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnreachable(f"{self._config.server}{path}: {_reason(error)}") from error


def _observed(observer: Observer) -> aiohttp.TraceConfig:
    """Of a stream, the time until it begins counts."""
    trace = aiohttp.TraceConfig()

    async def begun(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.begun = time.monotonic()

    async def answered(
        _: aiohttp.ClientSession, context: SimpleNamespace, told: aiohttp.TraceRequestEndParams
    ) -> None:
        observer(told.method, str(told.response.status), time.monotonic() - context.begun)

    async def failed(
        _: aiohttp.ClientSession, context: SimpleNamespace, told: aiohttp.TraceRequestExceptionParams
    ) -> None:
        observer(told.method, "<error>", time.monotonic() - context.begun)

    trace.on_request_start.append(begun)
    trace.on_request_end.append(answered)
    trace.on_request_exception.append(failed)
    return trace


def _timeout(silence: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=silence)


def _reason(error: Exception) -> str:
    """What went wrong, without the internals that aiohttp prints."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ssl.SSLError):
        return os.strerror(cause.errno)
    return str(cause) or type(cause).__name__


def _notice_dead_peer(response: aiohttp.ClientResponse) -> None:
    """Keep-alive probes on the stream's connection: a watch may be silent for minutes and still be well."""
    connection = response.connection
    channel = connection.transport.get_extra_info("socket") if connection and connection.transport else None
    if channel is None or channel.family not in (socket.AF_INET, socket.AF_INET6):
        return
    probes = 3
    interval = DEAD_PEER_SECONDS // (probes + 1)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval)
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
