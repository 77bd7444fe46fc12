"""The probe's two ends on loopback."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import Any

import pytest
from probe_server import serving

from tulle.verify.probe import icmp
from tulle.verify.probe.client import check_all
from tulle.verify.probe.wire import decode, payload

LOOPBACKS = ["127.0.0.1", "::1"]


async def check(kind: str, address: str, port: int, size: int = 0, timeout: float = 10.0) -> Any:
    question = {"id": 7, "kind": kind, "address": address, "port": port, "size": size}
    (answer,) = await check_all([question], timeout)
    assert answer.pop("id") == 7
    return answer


@pytest.mark.parametrize("address", LOOPBACKS)
@pytest.mark.parametrize(("kind", "size"), [("tcp", 0), ("tcp", 262144), ("udp", 64), ("udp", 10_000)])
async def test_an_answer_says_who_gave_it_and_whom_it_saw(address: str, kind: str, size: int) -> None:
    async with serving() as port:
        answer = await check(kind, address, port, size)
    assert answer == {"name": "me", "peer": address, "error": None}


@pytest.mark.parametrize("kind", ["tcp", "udp"])
async def test_nobody_there(closed_port: int, kind: str) -> None:
    answer = await check(kind, "127.0.0.1", closed_port)
    assert answer == {"name": None, "peer": None, "error": "Connection refused"}


async def test_silence_ends_with_the_time_of_the_check() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        answer = await check("tcp", "127.0.0.1", port, timeout=0.5)
    assert answer["error"] == "no answer within 0.5 s, though the connection stands"


async def test_someone_else_on_the_port() -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\n")
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
        answer = await check("tcp", "127.0.0.1", server.sockets[0].getsockname()[1])
    assert answer["error"] == "an answer that no probe gives"


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
async def test_a_port_in_use_cannot_be_taken(address: str) -> None:
    assert (await check("bind", address, 0))["error"] is None, "any that is free"
    async with serving() as port:
        assert (await check("bind", address, port))["error"] == "EADDRINUSE"


async def test_the_kubelet_may_probe_over_http() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.0 200 OK")
        writer.close()


@pytest.mark.parametrize("message", [b"", b"\n", b"{", b"[]\n", b"\xff\xfe"])
async def test_nonsense_does_not_stop_the_server(message: bytes) -> None:
    async with serving() as port:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(message, ("127.0.0.1", port))
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(message)
        writer.close()
        assert (await check("udp", "127.0.0.1", port))["name"] == "me"


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "tulle.verify.probe", "serve", "--name", "x", "--port", str(port)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (
        1,
        f"tulle probe: port {port} cannot be used: Address already in use\n",
    )


def test_the_probe_needs_only_the_standard_library() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "tulle.verify.probe", "serve", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert {name for name in imported if name.startswith("tulle.verify.")} >= {"tulle.verify.probe"}
    assert not imported & {"msgspec", "aiohttp", "rich", "typer", "uvloop"}


def test_icmp_messages() -> None:
    token = icmp.new_token()
    message = icmp.request(socket.AF_INET, token)
    assert icmp.checksum(message) == 0
    assert icmp.parse(socket.AF_INET, False, message) == (8, token)
    assert icmp.parse(socket.AF_INET, True, b"\x45" + bytes(19) + message) == (8, token)
    assert icmp.parse(socket.AF_INET6, True, icmp.request(socket.AF_INET6, token)) == (128, token)
    for noise in (b"", b"\x45", message[:20], bytes(60)):
        assert icmp.parse(socket.AF_INET, True, noise) is None


def test_wire() -> None:
    assert decode(b'{"a": 1}\nrest\nof it') == ({"a": 1}, b"rest\nof it")
    assert len(payload(1000)) == 1000
