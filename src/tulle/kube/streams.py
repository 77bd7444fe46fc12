"""A command in a container, through the API server's WebSocket (subprotocol v5.channel.k8s.io or v4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import msgspec

from tulle.errors import ApiUnreachable
from tulle.kube.wire import Status, status_error

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
PROTOCOLS = (V5, V4)
STDIN, STDOUT, STDERR, ERROR, CLOSE = 0, 1, 2, 3, 255
"""The first byte of each message says which stream it belongs to; CLOSE exists from v5 on."""
CHUNK = 32 * 1024


@dataclass(frozen=True)
class ExecResult:
    """What a command wrote, and how it ended."""

    stdout: bytes
    stderr: bytes
    exit_code: int


def exec_query(command: Sequence[str], container: str | None, with_stdin: bool) -> list[tuple[str, str]]:
    """The query of an exec request."""
    query = [("command", word) for word in command]
    query += [("container", container)] if container else []
    query += [("stdin", "true")] if with_stdin else []
    return [*query, ("stdout", "true"), ("stderr", "true")]


async def converse(channel: aiohttp.ClientWebSocketResponse, stdin: bytes | None) -> ExecResult:
    """Sends ``stdin``, then collects both outputs until the Status on the error stream says the exit code."""
    await _send(channel, stdin)
    streams: dict[int, bytearray] = {STDOUT: bytearray(), STDERR: bytearray(), ERROR: bytearray()}
    async for message in channel:
        data = message.data
        if message.type is aiohttp.WSMsgType.BINARY and data and data[0] in streams:
            streams[data[0]] += data[1:]
    if not streams[ERROR]:
        raise ApiUnreachable("the connection broke before the command ended")
    return ExecResult(bytes(streams[STDOUT]), bytes(streams[STDERR]), exit_code(bytes(streams[ERROR])))


async def _send(channel: aiohttp.ClientWebSocketResponse, stdin: bytes | None) -> None:
    if stdin is None:
        return
    for start in range(0, len(stdin), CHUNK):
        await channel.send_bytes(bytes([STDIN]) + stdin[start : start + CHUNK])
    if channel.protocol == V5:
        await channel.send_bytes(bytes([CLOSE, STDIN]))


def exit_code(error: bytes) -> int:
    """0 or what the command ended with; raises the API's error if it did not run at all."""
    try:
        status = msgspec.json.decode(error, type=Status)
    except msgspec.MsgspecError as problem:
        raise ApiUnreachable(f"the command's end was told unreadably: {problem}") from problem
    if status.status == "Success":
        return 0
    codes = [cause.message for cause in status.causes if cause.reason == "ExitCode"]
    if status.reason == "NonZeroExitCode" and codes and codes[0].lstrip("-").isdigit():
        return int(codes[0])
    raise status_error(status)
