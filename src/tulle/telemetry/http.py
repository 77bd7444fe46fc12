"""Small pages over HTTP: a request, a short answer, the end of the connection.

Nothing that comes in is trusted: a request's head is bounded, whoever is slow is cut off, and of very many
connections the oldest gives way, so that a flood of them takes neither descriptors nor answers from others.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

_LONGEST = 8192  # bytes of a request's head
_PATIENCE = 5.0  # seconds for a client to send it, and to take the answer
_MOST = 128  # connections of a server, on all its sockets
_LINE = re.compile(rb"([A-Z]{1,20}) (\S+)(?: HTTP/1\.[01])?\r?\n")

TEXT = "text/plain; version=0.0.4; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; ``headers`` beside those that each answer has."""

    status: int
    body: str
    type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[str, str], Awaitable[Reply]]
"""Answers a method and a path, which comes without its query."""
Page = Callable[[], Reply | Awaitable[Reply]]


def pages(shown: Mapping[str, Page]) -> Handler:
    """Answers GET and HEAD for these paths, 404 with a list of them for others."""

    async def answer(method: str, path: str) -> Reply:
        page = shown.get(path)
        if method not in ("GET", "HEAD"):
            return Reply(405, "only GET is served here\n", headers=(("Allow", "GET, HEAD"),))
        if page is None:
            return Reply(404, f"there is {', '.join(shown)}\n")
        reply = page()
        return reply if isinstance(reply, Reply) else await reply

    return answer


class Server:
    """Serves any number of sockets."""

    def __init__(self) -> None:
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def serve(self, sock: socket.socket, handler: Handler) -> asyncio.Server:
        """On ``sock``, which listens already; it is closed with what is returned."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._make_room()
            self._open[writer] = None
            try:
                async with asyncio.timeout(_PATIENCE):
                    await _exchange(reader, writer, handler)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                writer.transport.abort()
            finally:
                self._open.pop(writer, None)

        sock.setblocking(False)
        return await asyncio.start_server(handle, sock=sock, limit=_LONGEST)

    def _make_room(self) -> None:
        """Whoever came first had the most time: a client that means well is long gone."""
        if len(self._open) >= _MOST:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    request = _LINE.match(head)
    if request is None:
        method, reply = "", Reply(400, "this is no request of HTTP/1\n")
    else:
        method = request[1].decode()
        reply = await handler(method, request[2].partition(b"?")[0].decode("latin-1"))
    writer.write(_encode(reply, with_body=method != "HEAD"))
    writer.close()
    await writer.wait_closed()


def _encode(reply: Reply, with_body: bool) -> bytes:
    body = reply.body.encode()
    lines = (
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
        f"Content-Type: {reply.type}",
        *(f"{name}: {value}" for name, value in reply.headers),
        f"Content-Length: {len(body)}",
        "Connection: close",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + (body if with_body else b"")
