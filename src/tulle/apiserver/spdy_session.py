"""Exec and attach for kubectl up to 1.30: its SPDY streams are the channels of the kubelet's WebSocket.

SPDY's flow control is half kept: what a client sends is acknowledged once the kubelet has it, but what it
is sent does not wait for its acknowledgements, because kubectl never sends any. TCP's holds both ways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import web

from tulle.apiserver import spdy, status

VERSION: Final = "v4.channel.k8s.io"
WITH_CLOSE: Final = "v5.channel.k8s.io"
"""The WebSocket protocol in which an end of stdin can be said."""
CHANNELS: Final = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3, "resize": 4}
STDIN, ERROR, RESIZE, CLOSE = 0, 3, 4, 255
STREAMS_SECONDS: Final = 30.0
"""As long does Kubernetes wait for the client to open its streams."""
LEAVE_SECONDS: Final = 5.0
"""A client has so long to read the end and to leave; who is cut off while sending may lose it."""

_GONE: Final = (ConnectionError, aiohttp.ClientConnectionError)
_BROKEN: Final = status.StatusError(500, "the kubelet's connection ended before the command did")


def is_asked_for(request: web.BaseRequest) -> bool:
    """Raises StatusError when the client knows no version of the streams that is served."""
    if request.headers.get("Upgrade", "").lower() != "spdy/3.1":
        return False
    offered = ",".join(request.headers.getall("X-Stream-Protocol-Version", ()))
    if VERSION not in [each.strip() for each in offered.split(",")]:
        raise status.bad_request(f"X-Stream-Protocol-Version: must offer {VERSION}, not {offered!r}")
    return True


def expected(query: Mapping[str, str]) -> dict[str, int]:
    """The streams that a client opens for this request, and their channels; a terminal has no stderr."""
    tty = _is_on(query, "tty")
    wanted = {"error": True, "resize": tty, "stderr": _is_on(query, "stderr") and not tty}
    return {name: channel for name, channel in CHANNELS.items() if wanted.get(name, _is_on(query, name))}


def _is_on(query: Mapping[str, str], name: str) -> bool:
    return query.get(name) in ("true", "1")


async def relay(request: web.BaseRequest, upstream: aiohttp.ClientWebSocketResponse) -> web.StreamResponse:
    """Until the command ends or the client leaves; the connection is closed then."""
    if request.transport is None:
        raise ConnectionResetError
    reader = asyncio.StreamReader()
    reader.set_transport(request.transport)
    parser: Any = _Parser(reader)
    request.protocol.set_parser(parser)
    upgraded = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": VERSION}
    response = web.StreamResponse(status=101, headers=upgraded)
    response.force_close()
    await response.prepare(request)
    session = _Session(reader, response, upstream, expected(request.query))
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(session.hear(), name="spdy-from-client")
        telling = group.create_task(session.tell(), name="spdy-to-client")
        await asyncio.wait((hearing, telling), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((hearing,), timeout=LEAVE_SECONDS)
        hearing.cancel()
        telling.cancel()
    return response


class _Parser:
    """Hands the connection's octets to ``reader``, in the form that aiohttp feeds its parsers."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    def feed_data(self, octets: bytes) -> tuple[bool, bytes]:
        self._reader.feed_data(octets)
        return False, b""

    def feed_eof(self) -> None:
        self._reader.feed_eof()


class _Session:
    """One client; ``missing`` are the streams that it has yet to open."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        response: web.StreamResponse,
        upstream: aiohttp.ClientWebSocketResponse,
        missing: dict[str, int],
    ) -> None:
        self._reader = reader
        self._response = response
        self._upstream = upstream
        self._missing = missing
        self._channels: dict[int, int] = {}
        self._ready = asyncio.Event()
        self._encoder = spdy.Encoder()

    async def hear(self) -> None:
        """Until the client leaves, or sends what cannot be understood."""
        decoder = spdy.Decoder()
        with suppress(asyncio.IncompleteReadError, *_GONE):
            try:
                while True:
                    head = await self._reader.readexactly(spdy.HEAD.size)
                    payload = await self._reader.readexactly(spdy.size_of(head))
                    await self._take(decoder.decode(head, payload))
            except spdy.Malformed:
                await self._response.write(spdy.go_away())

    async def tell(self) -> None:
        """What the kubelet sends, once every stream is open; then the end of each."""
        with suppress(TimeoutError, *_GONE):
            async with asyncio.timeout(STREAMS_SECONDS):
                await self._ready.wait()
            told = False
            async for message in self._upstream:
                if message.type is aiohttp.WSMsgType.BINARY and message.data:
                    told |= message.data[0] == ERROR
                    await self._say(message.data[0], message.data[1:])
            if not told:
                await self._say(ERROR, msgspec.json.encode(status.body(_BROKEN)))
            await self._response.write(b"".join(spdy.data(stream, fin=True) for stream in self._channels))

    async def _say(self, channel: int, content: bytes) -> None:
        for stream in [number for number, found in self._channels.items() if found == channel]:
            await self._response.write(spdy.data(stream, content))

    async def _take(self, frame: spdy.Frame | None) -> None:
        match frame:
            case spdy.SynStream():
                await self._accept(frame)
            case spdy.Data():
                await self._pass_on(frame)
            case spdy.RstStream(stream):
                await self._end_input(self._channels.pop(stream, None))
            case spdy.Ping(number):
                await self._response.write(spdy.ping(number))

    async def _accept(self, frame: spdy.SynStream) -> None:
        name = frame.headers.get("streamtype", "")
        if name not in self._missing or frame.stream in self._channels:
            await self._response.write(spdy.reset(frame.stream, spdy.Reset.PROTOCOL_ERROR))
            return
        channel = self._channels[frame.stream] = self._missing.pop(name)
        await self._response.write(self._encoder.reply(frame.stream))
        if frame.fin:
            await self._end_input(channel)
        if not self._missing:
            self._ready.set()

    async def _pass_on(self, frame: spdy.Data) -> None:
        channel = self._channels.get(frame.stream)
        if channel is None:
            await self._response.write(spdy.reset(frame.stream, spdy.Reset.INVALID_STREAM))
            return
        if frame.data:
            if channel in (STDIN, RESIZE):
                await self._send(bytes([channel]) + frame.data)
            await self._response.write(spdy.window_update(frame.stream, len(frame.data)))
        if frame.fin:
            await self._end_input(channel)

    async def _end_input(self, channel: int | None) -> None:
        if channel == STDIN and self._upstream.protocol == WITH_CLOSE:
            await self._send(bytes([CLOSE, STDIN]))

    async def _send(self, message: bytes) -> None:
        """What a kubelet that has gone does not hear needs no error: ``tell`` says that it has gone."""
        with suppress(*_GONE):
            await self._upstream.send_bytes(message)
