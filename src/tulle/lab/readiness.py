"""Whether the cluster DNS answers on a node."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Final

from tulle.kernel import netns
from tulle.model.address import Address

_AGAIN_SECONDS: Final = 0.05
_ATTEMPT_SECONDS: Final = 0.5
"""Before the node has the address, an attempt may get no answer at all."""


async def dns_ready(namespace: Path, address: Address, port: int) -> None:
    """Returns once ``GET /ready`` says 200 there. It asks again and again: nobody announces readiness."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    while True:
        with netns.entered(namespace):
            connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with connection:
            if await says_ready(connection, (str(address), port)):
                return
        await asyncio.sleep(_AGAIN_SECONDS)


async def says_ready(connection: socket.socket, peer: tuple[str, int]) -> bool:
    """The answer of one attempt; an unused non-blocking socket is needed for each."""
    loop = asyncio.get_running_loop()
    answer = b""
    try:
        async with asyncio.timeout(_ATTEMPT_SECONDS):
            await loop.sock_connect(connection, peer)
            await loop.sock_sendall(connection, b"GET /ready HTTP/1.0\r\nHost: dns\r\n\r\n")
            while b"\r\n" not in answer and (part := await loop.sock_recv(connection, 512)):
                answer += part
    except (OSError, TimeoutError):
        return False
    return answer.split(b" ", 2)[1:2] == [b"200"]
