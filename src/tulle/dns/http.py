"""/metrics, /health and /ready: a request, a short answer, the end of the connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

Page = Callable[[], tuple[int, str]]
"""Gives status and text."""

_LONGEST = 8192  # bytes of a request's head
_PATIENCE = 5.0  # seconds for a client to send it
_WORDS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


async def serve(sock: socket.socket, pages: dict[str, Page]) -> asyncio.Server:
    """On ``sock``, which listens already; its descriptor stays open when the server is closed."""
    copy = sock.dup()
    copy.setblocking(False)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(head, pages))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(handle, sock=copy, limit=_LONGEST)


def _answer(head: bytes, pages: dict[str, Page]) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
    page = pages.get(path)
    if method not in (b"GET", b"HEAD"):
        status, text = 405, "only GET is served here\n"
    elif page is None:
        status, text = 404, f"there is {', '.join(pages)}\n"
    else:
        status, text = page()
    body = text.encode()
    lines = (
        f"HTTP/1.1 {status} {_WORDS[status]}",
        "Content-Type: text/plain; version=0.0.4; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + (b"" if method == b"HEAD" else body)
