"""Answers every question with what it saw of whoever asked."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections import OrderedDict
from collections.abc import Iterator

from tulle.verify.probe import icmp
from tulle.verify.probe.wire import FAMILIES, MOST_BYTES, PACKET_INFO, decode, encode

MOST_TOKENS = 10_000
PATIENCE = 30.0
"""Seconds after which a TCP peer that says nothing is let go."""
_ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Server:
    """TCP and UDP on one port of each family that there is; echo requests are noted by their token."""

    def __init__(self, name: str, port: int) -> None:
        self._name = name
        self._port = port
        self._echoes: OrderedDict[str, str] = OrderedDict()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises ``OSError`` if the port is taken."""
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        async with contextlib.AsyncExitStack() as stack:
            for family in FAMILIES:
                for listener in self._sockets(family):
                    stack.callback(listener.close)
                    await self._listen(stack, listener)
            await stopped.wait()

    def _sockets(self, family: socket.AddressFamily) -> Iterator[socket.socket]:
        """None at all where the kernel lacks the family."""
        try:
            yield _bound(family, socket.SOCK_STREAM, self._port)
        except OSError as error:
            if error.errno in _ABSENT:
                return
            raise
        yield _bound(family, socket.SOCK_DGRAM, self._port)
        with contextlib.suppress(PermissionError):
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            yield socket.socket(family, kind, icmp.ECHO[family].protocol)

    async def _listen(self, stack: contextlib.AsyncExitStack, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if listener.type == socket.SOCK_STREAM:
            await stack.enter_async_context(
                await asyncio.start_server(self._talk, sock=listener, backlog=512)
            )
            return
        handler = self._answer if listener.type == socket.SOCK_DGRAM else self._note
        loop.add_reader(listener, handler, listener)
        stack.callback(loop.remove_reader, listener)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(PATIENCE):
                writer.write(await self._reply(reader, writer))
                await writer.drain()
        writer.close()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        line = await reader.readline()
        if line.startswith(b"GET "):
            await reader.readuntil(b"\r\n\r\n")
            return b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
        question, _ = decode(line)
        body = await reader.readexactly(min(int(question.get("size", 0)), MOST_BYTES))
        peer = writer.get_extra_info("peername")
        local = writer.get_extra_info("sockname")[0]
        return encode({"name": self._name, "peer": peer[0], "port": peer[1], "local": local}, body)

    def _answer(self, listener: socket.socket) -> None:
        """A datagram: answered from the address that it was sent to, or dropped when it makes no sense."""
        info = PACKET_INFO[socket.AddressFamily(listener.family)]
        with contextlib.suppress(OSError, ValueError):
            message, ancillary, _, peer = listener.recvmsg(65535, 256)
            question, body = decode(message)
            local = info.local(ancillary)
            answer = {
                "name": self._name,
                "peer": peer[0],
                "port": peer[1],
                "local": socket.inet_ntop(listener.family, local),
                "echo": self._echoes.get(str(question.get("token"))),
            }
            listener.sendmsg([encode(answer, body)], info.answer_from(local), 0, peer)

    def _note(self, listener: socket.socket) -> None:
        """An ICMP message, which the kernel answers by itself: remember who sent an echo request."""
        family = socket.AddressFamily(listener.family)
        with contextlib.suppress(OSError):
            packet, source = listener.recvfrom(65535)
            seen = icmp.parse(family, True, packet)
            if seen and seen[0] == icmp.ECHO[family].request:
                self._echoes[seen[1].hex()] = source[0]
                while len(self._echoes) > MOST_TOKENS:
                    self._echoes.popitem(last=False)


def _bound(family: socket.AddressFamily, kind: socket.SocketKind, port: int) -> socket.socket:
    """On all addresses of one family; the other family has a socket of its own."""
    bound = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if family is socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind is socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            info = PACKET_INFO[family]
            bound.setsockopt(info.level, info.receive_option, 1)
        bound.bind(("", port))
    except OSError:
        bound.close()
        raise
    return bound
