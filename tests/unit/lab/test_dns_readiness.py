"""How the lab learns that a cluster DNS answers."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tulle.lab.readiness import says_ready


async def _asked(answer: bytes) -> tuple[bool, bytes]:
    """What is made of the answer, and the first line of the question."""
    heard = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.readline()
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            found = await says_ready(connection, server.sockets[0].getsockname())
    return found, heard


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nOK", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"HTTP/1.1", False),
        (b"", False),
    ],
)
async def test_only_200_is_ready(answer: bytes, ready: bool) -> None:
    assert await _asked(answer) == (ready, b"GET /ready HTTP/1.0\r\n")


async def test_nobody_there_is_not_ready() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening: whoever connects is refused
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            assert not await says_ready(connection, taken.getsockname())
