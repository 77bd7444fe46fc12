"""Pages over real sockets: what is answered, and what nobody can do to us."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.ports import reserved

from tulle.telemetry import http
from tulle.telemetry.http import Reply, Server, pages
from tulle.telemetry.listeners import Listeners, Place, parse_place

SHOWN = {"/here": lambda: Reply(200, "é\n", headers=(("X-Of", "us"),)), "/bad": lambda: Reply(503, "")}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    sock = socket.create_server(("127.0.0.1", 0))
    serving = await Server().serve(sock, pages(SHOWN))
    yield serving.sockets[0].getsockname()[1]
    serving.close()


async def ask(port: int, request: bytes, address: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionResetError:  # it was cut off amid what it sent
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /here HTTP/1.1", b"200 OK", "é\n".encode()),
        (b"GET /here?a=/bad HTTP/1.0", b"200 OK", "é\n".encode()),
        (b"HEAD /here HTTP/1.1", b"200 OK", b""),
        (b"GET /bad HTTP/1.1", b"503 Service Unavailable", b""),
        (b"GET /else HTTP/1.1", b"404 Not Found", b"there is /here, /bad\n"),
        (b"OPTIONS /here HTTP/1.0", b"200 OK", "é\n".encode()),
        (b"GET", b"400 Bad Request", b"this is no request of HTTP/1\n"),
        (b"PRI * HTTP/2.0", b"400 Bad Request", b"this is no request of HTTP/1\n"),
        (b"\x16\x03\x01\x02\x00\x01", b"400 Bad Request", b"this is no request of HTTP/1\n"),
    ],
)
async def test_answers(port: int, request_line: bytes, status: bytes, body: bytes) -> None:
    answer = await ask(port, request_line + b"\r\nHost: here\r\n\r\n")
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\n") and rest == body
    assert b"\r\nConnection: close" in head
    assert (b"\r\nX-Of: us" in head) is (b"/here" in request_line and status == b"200 OK")
    if b"HEAD" not in request_line:
        assert f"\r\nContent-Length: {len(body)}".encode() in head


async def test_a_head_that_does_not_end_is_cut_off(port: int) -> None:
    assert await ask(port, b"GET /here HTTP/1.1\r\nX: " + b"x" * 9000) == b""


async def test_of_too_many_connections_the_oldest_goes(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever only holds connections open keeps nobody else out."""
    monkeypatch.setattr(http, "_MOST", 3)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
    try:
        assert await silent[0][0].read() == b""
        assert b"200 OK" in await ask(port, b"GET /here HTTP/1.1\r\n\r\n")
    finally:
        for _, writer in silent:
            writer.close()


async def test_a_silent_client_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_PATIENCE", 0.05)
    assert await ask(port, b"GET /here HTTP/1.1\r\n") == b""


def until_closed(port: int) -> None:
    """Until the other end of the connection to this port of 127.0.0.1 is no longer established."""
    deadline = time.monotonic() + 10
    while any(f":{port:04X} 01 " in line for line in Path("/proc/net/tcp").read_text().splitlines()):
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is larger than what the kernel takes in for it."""
    monkeypatch.setattr(http, "_PATIENCE", 0.1)
    asked = asyncio.Event()
    size = 64 << 20

    def page() -> Reply:
        asked.set()
        return Reply(200, "x" * size)

    serving = await Server().serve(socket.create_server(("127.0.0.1", 0)), pages({"/": page}))
    client = socket.create_connection(serving.sockets[0].getsockname())
    try:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        await asked.wait()
        await asyncio.to_thread(until_closed, client.getsockname()[1])
        with client.makefile("rb") as reader:
            assert len(reader.read()) < size
    finally:
        client.close()
        serving.close()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0.0.0.0:10256", ("0.0.0.0", 10256)),
        ("[::1]:1", ("::1", 1)),
        ("10.0.0.7:65535", ("10.0.0.7", 65535)),
    ],
)
def test_places(text: str, place: tuple[str, int]) -> None:
    found = parse_place(text)
    assert found == Place(ip_address(place[0]), place[1]) and str(found) == text


@pytest.mark.parametrize(
    "text", ["10256", ":10256", "::1:10256", "1.2.3.4:0", "1.2.3.4:65536", "host:1", "[1.2.3]:4", "1.2.3.4:x"]
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|not appear|Expected|from 1"):
        parse_place(text)


async def test_listeners_are_as_wanted_and_a_taken_port_is_told() -> None:
    with reserved("127.0.0.1") as port:
        taken = socket.create_server(("127.0.0.1", port))
        place = Place(ip_address("127.0.0.1"), port)
        listeners = Listeners(Server(), lambda _: pages(SHOWN))
        assert list(await listeners.keep([place])) == [place]
        taken.close()
        assert await listeners.keep([place]) == {}
        assert b"200 OK" in await ask(port, b"GET /here HTTP/1.1\r\n\r\n")
        assert await listeners.keep([]) == {}
        with pytest.raises(ConnectionRefusedError):
            await ask(port, b"")
        assert await listeners.keep([place]) == {}, "at once again"
        assert await listeners.keep([]) == {}


async def test_all_addresses_of_both_families() -> None:
    with reserved("::") as port:
        listeners = Listeners(Server(), lambda _: pages(SHOWN))
        assert await listeners.keep([Place(ip_address("0.0.0.0"), port)]) == {}
        for address in ("127.0.0.1", "::1"):
            assert b"200 OK" in await ask(port, b"GET /here HTTP/1.1\r\n\r\n", address)
        await listeners.keep([])
