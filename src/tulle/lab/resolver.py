"""The resolver of *world*: a handful of names outside the cluster, for nodes and for Pods that ask them.

It shares no code with ``tulle dns``, whose upstream it is: a mistake there must not look right because of it.
It speaks as little of DNS (RFC 1035) as that takes, and no EDNS: what does not fit into 512 bytes is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final

from tulle.model.address import Address

NAME: Final = "world.example"
A, CNAME, SOA, AAAA, ANY = 1, 5, 6, 28, 255
_IN: Final = 1
_TTL: Final = 30
_MOST_UDP: Final = 512
_IDLE_SECONDS: Final = 10.0
_NOERROR, _FORMERR, _NXDOMAIN, _NOTIMP = 0, 1, 3, 4
_OPCODE, _CUT, _ASKED = 0x7800, 0x0200, 0x7900
"""Bits of the header's flags; the last are those that an answer repeats: opcode and RD."""

_MANY: Final = 40

Records = Mapping[str, Sequence[tuple[int, bytes]]]


def records(world: Sequence[Address]) -> Records:
    """Type and data by name: *world*'s own addresses, an alias of it, and an answer too long for UDP."""
    own = [(A if address.version == 4 else AAAA, address.packed) for address in world]
    many = [(A, IPv4Address(f"192.0.2.{number}").packed) for number in range(1, _MANY + 1)]
    return {NAME: own, f"www.{NAME}": [(CNAME, _encoded(NAME))], f"many.{NAME}": many}


def answer(query: bytes, known: Records, most: int) -> bytes | None:
    """The message to send back, of at most ``most`` bytes; None for what is no query."""
    if len(query) < 12 or query[2] & 0x80:
        return None
    number, flags, questions = struct.unpack_from("!HHH", query)
    flags &= _ASKED
    asked = _question(query) if questions == 1 else None
    if asked is None or flags & _OPCODE:
        return _message(number, flags, b"", [], _NOTIMP if flags & _OPCODE else _FORMERR)
    name, kind, question = asked
    found = _found(name, kind, known)
    there = any(other == name or other.endswith(f".{name}") for other in known) or not name
    reply = _message(number, flags, question, found, _NOERROR if there else _NXDOMAIN)
    return reply if len(reply) <= most else _message(number, flags | _CUT, question, [], _NOERROR)


def _found(name: str, kind: int, known: Records) -> list[tuple[str, int, bytes]]:
    """An alias is followed, one step: there is no chain here."""
    own = known.get(name, ())
    matching = [(name, of, data) for of, data in own if kind in (of, ANY) or of == CNAME]
    if matching and matching[0][1] == CNAME and kind not in (CNAME, ANY):
        matching += [(NAME, of, data) for of, data in known[NAME] if of == kind]
    return matching


def _question(query: bytes) -> tuple[str, int, bytes] | None:
    """Name in lower case, type, and the bytes to echo; None when it is cut off or compressed."""
    labels, at = [], 12
    while at < len(query) and (length := query[at]):
        if length > 63:
            return None
        labels.append(query[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    if at + 5 > len(query):
        return None
    return ".".join(labels), int.from_bytes(query[at + 1 : at + 3], "big"), query[12 : at + 5]


def _message(
    number: int, flags: int, question: bytes, found: Sequence[tuple[str, int, bytes]], code: int
) -> bytes:
    """With the root's SOA where there is no record, so that also that may be kept (RFC 2308)."""
    zone = b"\0" + _encoded("hostmaster.example") + struct.pack("!5I", 1, 3600, 600, 86400, _TTL)
    negative = bool(question) and not found and not flags & _CUT
    header = struct.pack("!6H", number, 0x8080 | flags | code, bool(question), len(found), negative, 0)
    body = b"".join(_record(*record) for record in found)
    return header + question + body + (_record("", SOA, zone) if negative else b"")


def _record(name: str, kind: int, data: bytes) -> bytes:
    return _encoded(name) + struct.pack("!HHIH", kind, _IN, _TTL, len(data)) + data


def _encoded(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


async def serve(sockets: Sequence[socket.socket], known: Records) -> None:
    """On bound UDP and listening TCP sockets, until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)

    def respond(query: bytes, most: int) -> bytes | None:
        return answer(query, known, most)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _converse(reader, writer, respond)

    async with contextlib.AsyncExitStack() as stack:
        for each in sockets:
            if each.type == socket.SOCK_DGRAM:
                each.setblocking(False)
                loop.add_reader(each, _reply, each, respond)
                stack.callback(loop.remove_reader, each)
            else:
                await stack.enter_async_context(await asyncio.start_server(connected, sock=each))
        await stopped.wait()


def _reply(datagrams: socket.socket, respond: Callable[[bytes, int], bytes | None]) -> None:
    """To one datagram; what cannot be received or sent is lost, as datagrams may be."""
    with contextlib.suppress(OSError):
        query, peer = datagrams.recvfrom(65535)
        if reply := respond(query, _MOST_UDP):
            datagrams.sendto(reply, peer)


async def _converse(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    respond: Callable[[bytes, int], bytes | None],
) -> None:
    """One query after the other, each with its length before it (RFC 7766)."""
    try:
        while True:
            async with asyncio.timeout(_IDLE_SECONDS):
                query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            if not (reply := respond(query, 65535)):
                return
            writer.write(len(reply).to_bytes(2, "big") + reply)
            await writer.drain()
    except (asyncio.IncompleteReadError, TimeoutError, OSError):
        return
    finally:
        writer.close()
