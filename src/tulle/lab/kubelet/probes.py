"""Probes and lifecycle hooks: one attempt of each kind, and the counting of attempts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import aiohttp

from tulle.errors import ConfigError
from tulle.lab.kubelet import grpc
from tulle.lab.kubelet.objects import Handler, HttpGet, IntOrString, Probe

Run = Callable[[Sequence[str]], Awaitable[tuple[int, str]]]
"""Runs a command in the container; its exit code and what it wrote."""

_USER_AGENT = "kube-probe/1.36"
_MOST_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Target:
    """The container that is probed. ``ports`` are the named ones."""

    ip: str
    ports: Mapping[str, int]
    run: Run
    http: aiohttp.ClientSession

    def port(self, port: IntOrString) -> int:
        """Raises ``ConfigError`` for a name that the container does not have."""
        if isinstance(port, int):
            return port
        if port.isdecimal():
            return int(port)
        if port not in self.ports:
            raise ConfigError(f"no port of the container is named {port!r}")
        return self.ports[port]


async def attempt(handler: Handler, target: Target, timeout: float | None) -> str | None:
    """None for success, else why it failed. ``timeout`` in seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await _attempt(handler, target)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except aiohttp.ClientConnectorError as error:
        return f"cannot connect to {error.host}:{error.port}: {os.strerror(error.os_error.errno or 0)}"
    except (OSError, aiohttp.ClientError, EOFError, ConfigError) as error:
        return str(error) or type(error).__name__


async def _attempt(handler: Handler, target: Target) -> str | None:
    if handler.exec:
        code, output = await target.run(handler.exec.command)
        return None if code == 0 else f"exit code {code}: {output[:_MOST_SHOWN].strip()}"
    if handler.http_get:
        return await _http(handler.http_get, target)
    if handler.tcp_socket:
        socket = handler.tcp_socket
        _, writer = await asyncio.open_connection(socket.host or target.ip, target.port(socket.port))
        writer.close()
        return None
    if handler.grpc:
        return await grpc.check(target.ip, handler.grpc.port, handler.grpc.service or "")
    if handler.sleep:
        await asyncio.sleep(handler.sleep.seconds)
        return None
    return "none of exec, httpGet, tcpSocket, grpc and sleep is given"


async def _http(get: HttpGet, target: Target) -> str | None:
    host = get.host or target.ip
    url = f"{get.scheme.lower()}://{_bracketed(host)}:{target.port(get.port)}/{get.path.lstrip('/')}"
    headers = {"User-Agent": _USER_AGENT, "Accept": "*/*"} | {h.name: h.value for h in get.http_headers}
    async with target.http.get(url, headers=headers, allow_redirects=False, ssl=False) as answer:
        return None if 200 <= answer.status < 400 else f"HTTP status {answer.status}"


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ip_address(host).version == 6 else host
    except ValueError:
        return host


async def verdicts(probe: Probe, target: Target, failed: Callable[[str], None]) -> AsyncIterator[bool]:
    """For ever: True each time that successes reach their threshold, False when failures do.

    ``failed`` hears of every single failure.
    """
    await asyncio.sleep(probe.initial_delay_seconds)
    successes = failures = 0
    while True:
        reason = await attempt(probe, target, probe.timeout_seconds)
        if reason is None:
            successes, failures = successes + 1, 0
        else:
            successes, failures = 0, failures + 1
            failed(reason)
        if successes >= probe.success_threshold:
            yield True
        elif failures >= probe.failure_threshold:
            yield False
        await asyncio.sleep(probe.period_seconds)
