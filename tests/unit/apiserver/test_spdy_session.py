"""An exec over SPDY, octet by octet: between a client and the WebSocket of a stand-in for a kubelet."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tulle.apiserver import spdy, spdy_session
from tulle.apiserver.status import StatusError

Kubelet = Callable[[web.WebSocketResponse], Awaitable[None]]
UPGRADE = (
    b"POST /?stdin=true&stdout=true HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
    b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
)
SUCCESS = b'\x03{"metadata":{},"status":"Success"}'
SYN_REPLY, RST_STREAM, PING, GOAWAY, WINDOW_UPDATE = 2, 3, 6, 7, 9


class Client:
    """Speaks SPDY. A frame is (type of control frame or ``data``, flags, stream or first number, rest)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._deflater = zlib.compressobj(zdict=spdy.DICTIONARY)

    def send(self, octets: bytes) -> None:
        self._writer.write(octets)

    def open(self, stream: int, name: str) -> None:
        words = [b"streamtype", name.encode()]
        plain = struct.pack("!I", 1) + b"".join(struct.pack("!I", len(word)) + word for word in words)
        block = self._deflater.compress(plain) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        self.send(struct.pack("!HHIIIH", 0x8003, 1, 10 + len(block), stream, 0, 0) + block)

    def leave(self) -> None:
        self._writer.close()

    async def receive(self) -> tuple[int | str, int, int, bytes]:
        word, size = struct.unpack("!II", await self._reader.readexactly(8))
        payload = await self._reader.readexactly(size & 0xFFFFFF)
        if word < 1 << 31:
            return "data", size >> 24, word, payload
        return word & 0xFFFF, size >> 24, int.from_bytes(payload[:4]), payload[4:]

    async def ended(self) -> bytes:
        """What still came, once the server has closed the connection."""
        return await self._reader.read()

    async def open_all(self) -> None:
        for stream, name in ((1, "error"), (3, "stdin"), (5, "stdout")):
            self.open(stream, name)
            assert (await self.receive())[:3] == (SYN_REPLY, 0, stream)


@asynccontextmanager
async def served(
    folder: Path, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[Path]:
    app = web.Application()
    app.router.add_route("*", "/", handler)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.UnixSite(runner, str(folder)).start()
    try:
        yield folder
    finally:
        await runner.cleanup()


@asynccontextmanager
async def upgraded(
    folder: Path, kubelet: Kubelet, versions: tuple[str, ...] = ("v5.channel.k8s.io",)
) -> AsyncIterator[Client]:
    """A client after its upgrade, in front of a kubelet that knows ``versions``."""

    async def exec_(request: web.Request) -> web.WebSocketResponse:
        channel = web.WebSocketResponse(protocols=versions)
        await channel.prepare(request)
        await kubelet(channel)
        return channel

    async def front(request: web.Request) -> web.StreamResponse:
        assert spdy_session.is_asked_for(request)
        connector = aiohttp.UnixConnector(str(folder / "kubelet"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.ws_connect("http://kubelet/", protocols=versions) as upstream,
        ):
            return await spdy_session.relay(request, upstream)

    async with served(folder / "kubelet", exec_), served(folder / "front", front):
        reader, writer = await asyncio.open_unix_connection(str(folder / "front"))
        writer.write(UPGRADE)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n" in answer
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()


async def echo(channel: web.WebSocketResponse) -> None:
    """Sends stdin back, and ends with it."""
    async for message in channel:
        if message.data == b"\xff\x00":
            break
        await channel.send_bytes(b"\x01" + message.data[1:])
    await channel.send_bytes(SUCCESS)
    await channel.close()


async def hang_up(channel: web.WebSocketResponse) -> None:
    """As a kubelet that is killed."""
    await channel.close()


async def test_there_and_back(tmp_path: Path) -> None:
    async with upgraded(tmp_path, echo) as client:
        await client.open_all()
        client.send(spdy.data(3, b"hello"))
        heard = [await client.receive() for _ in range(3)]
        windows = [(WINDOW_UPDATE, 0, number, struct.pack("!I", 5)) for number in (3, 0)]
        assert sorted(heard, key=str) == sorted([*windows, ("data", 0, 5, b"hello")], key=str)
        client.send(spdy.data(3, fin=True))
        assert await client.receive() == ("data", 0, 1, SUCCESS[1:])
        assert [await client.receive() for _ in range(3)] == [
            ("data", 1, number, b"") for number in (1, 3, 5)
        ]


async def test_a_stdin_that_is_reset_has_ended(tmp_path: Path) -> None:
    async with upgraded(tmp_path, echo) as client:
        await client.open_all()
        client.send(spdy.reset(3, spdy.Reset.PROTOCOL_ERROR))
        assert await client.receive() == ("data", 0, 1, SUCCESS[1:])


async def test_a_kubelet_that_goes_is_a_failure(tmp_path: Path) -> None:
    """An error stream without a Status would be a success to kubectl."""
    async with upgraded(tmp_path, hang_up) as client:
        await client.open_all()
        said = json.loads((await client.receive())[3])
        assert (said["status"], said["code"]) == ("Failure", 500)
        assert said["message"] == "the kubelet's connection ended before the command did"


async def test_a_client_that_goes_is_told_to_the_kubelet(tmp_path: Path) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def listen(channel: web.WebSocketResponse) -> None:
        begun.set()
        async for _ in channel:
            pass
        left.set()

    async with upgraded(tmp_path, listen) as client:
        await client.open_all()
        await begun.wait()
        client.leave()
        async with asyncio.timeout(5):
            await left.wait()


async def test_streams_that_were_not_agreed_upon_are_refused(tmp_path: Path) -> None:
    async with upgraded(tmp_path, echo) as client:
        await client.open_all()
        for number, name in ((7, "stderr"), (9, "stdin"), (3, "resize")):
            client.open(number, name)
            assert await client.receive() == (RST_STREAM, 0, number, struct.pack("!I", 1))
        client.send(spdy.data(11, b"x"))
        assert await client.receive() == (RST_STREAM, 0, 11, struct.pack("!I", 2))
        client.send(spdy.ping(13))
        assert await client.receive() == (PING, 0, 13, b"")


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", bytes(8), b"\xff" * 8])
async def test_what_is_not_spdy_ends_the_connection(tmp_path: Path, octets: bytes) -> None:
    async with upgraded(tmp_path, echo) as client:
        await client.open_all()
        client.send(octets)
        assert (await client.receive())[0] == GOAWAY
        assert await client.ended() == b""


async def test_no_version_that_both_know(tmp_path: Path) -> None:
    async def front(request: web.Request) -> web.Response:
        with pytest.raises(StatusError, match=r"must offer v4\.channel\.k8s\.io, not 'v1'"):
            spdy_session.is_asked_for(request)
        return web.Response(text="refused")

    async with served(tmp_path / "front", front) as socket:
        connector = aiohttp.UnixConnector(str(socket))
        fields = {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v1"}
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://front/", headers=fields) as answer,
        ):
            assert await answer.text() == "refused"
