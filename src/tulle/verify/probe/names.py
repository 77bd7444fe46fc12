"""Asks for names in both ways: by the resolver library, and in messages of its own (RFC 1035)."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tulle.verify.probe.wire import family_of

ATTEMPTS = 3
TYPES = {"A": 1, "CNAME": 5, "PTR": 12, "AAAA": 28, "SRV": 33}
_NAMES = {number: name for name, number in TYPES.items()}
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_TRUNCATED, _RESPONSE = 0x0200, 0x8000
_ASKED = 0x0100  # recursion desired
_PAYLOAD = 1232
_OPT = struct.pack("!BHHIH", 0, 41, _PAYLOAD, 0, 0)  # RFC 6891: what we take over UDP
_MOST_POINTERS = 16


def resolver(path: Path = Path("/etc/resolv.conf")) -> dict[str, list[str]]:
    """``{servers, search}`` as the resolver library reads them: the last ``search`` line counts."""
    servers: list[str] = []
    search: list[str] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        keyword, *words = line.split() or [""]
        if keyword == "nameserver" and words:
            servers.append(words[0])
        if keyword in ("search", "domain"):
            search = words
    return {"servers": servers, "search": search}


async def query(check: dict[str, Any], timeout: float, progress: list[str]) -> dict[str, Any]:
    """``{rcode, records, seconds}``; what does not fit a datagram is asked for again over TCP."""
    start = time.monotonic()
    address, port = check["address"], check["port"]
    message = encode(check["name"], TYPES[check["type"]])
    asking = {"udp": _ask_udp, "tcp": _ask_tcp}[check["transport"]]
    answer = await asking(address, port, message, timeout / ATTEMPTS)
    if struct.unpack_from("!H", answer, 2)[0] & _TRUNCATED:
        progress.append(" over TCP, after a truncated one over UDP")
        answer = await _ask_tcp(address, port, message, timeout)
    rcode, records = decode(answer)
    return {"rcode": rcode, "records": records, "seconds": time.monotonic() - start}


async def library(check: dict[str, Any], timeout: float, progress: list[str]) -> dict[str, Any]:
    """``records`` are the addresses that ``getaddrinfo`` gives.

    In a thread that does not keep the process from ending, as the library may take longer than we wait.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str] | Exception) -> None:
        if future.done():
            return
        if isinstance(found, Exception):
            future.set_exception(found)
        else:
            future.set_result(found)

    def look_up() -> None:
        try:
            entries = socket.getaddrinfo(check["name"], None, type=socket.SOCK_STREAM)
            found: list[str] | Exception = sorted({str(entry[4][0]) for entry in entries})
        except (OSError, UnicodeError) as error:
            found = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=look_up, daemon=True).start()
    try:
        return {"records": await future}
    except socket.gaierror as error:
        return {"error": f"getaddrinfo: {error.strerror}"}


async def _ask_udp(address: str, port: int, message: bytes, interval: float) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(family_of(address), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
        channel.connect((address, port))
        while True:
            await loop.sock_sendall(channel, message)
            try:
                async with asyncio.timeout(interval):
                    while True:
                        answer = await loop.sock_recv(channel, 65535)
                        if _answers(message, answer):
                            return answer
            except TimeoutError:
                continue


async def _ask_tcp(address: str, port: int, message: bytes, interval: float) -> bytes:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(struct.pack("!H", len(message)) + message)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        answer = await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the connection was closed without an answer") from error
    finally:
        writer.close()
    if not _answers(message, answer):
        raise ValueError("not an answer to what was asked")
    return answer


def _answers(question: bytes, answer: bytes) -> bool:
    return len(answer) >= 12 and answer[:2] == question[:2] and bool(answer[2] & (_RESPONSE >> 8))


def encode(name: str, kind: int) -> bytes:
    """A query for class IN. Raises ``ValueError`` for a name that cannot be."""
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    if any(not 0 < len(label) < 64 for label in labels):
        raise ValueError(f"{name!r} is not a domain name")
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    head = struct.pack("!6H", secrets.randbits(16), _ASKED, 1, 0, 0, 1)
    return head + wire + struct.pack("!HH", kind, 1) + _OPT


def decode(message: bytes) -> tuple[str, list[str]]:
    """The response code, and the records of the answer section as words. Raises ``ValueError``."""
    try:
        return _decode(message)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("not a DNS message") from error


def _decode(message: bytes) -> tuple[str, list[str]]:
    _, flags, questions, answers, _, _ = struct.unpack_from("!6H", message)
    offset = 12
    for _ in range(questions):
        _, offset = read_name(message, offset)
        offset += 4
    records: set[str] = set()
    for _ in range(answers):
        _, offset = read_name(message, offset)
        kind, _, _, length = struct.unpack_from("!HHIH", message, offset)
        offset += 10
        if kind in _NAMES:
            records.add(f"{_NAMES[kind]} {_data(message, _NAMES[kind], offset, length)}")
        offset += length
    return RCODES.get(flags & 0xF, f"rcode {flags & 0xF}"), sorted(records)


def _data(message: bytes, kind: str, offset: int, length: int) -> str:
    """Of an SRV record the port and the target: priority and weight are the server's affair."""
    if kind in ("A", "AAAA"):
        return str(ipaddress.ip_address(message[offset : offset + length]))
    if kind == "SRV":
        port = struct.unpack_from("!H", message, offset + 4)[0]
        return f"{port} {read_name(message, offset + 6)[0]}"
    return read_name(message, offset)[0]


def read_name(message: bytes, offset: int) -> tuple[str, int]:
    """In lower case, with a dot at the end; and where it ends in the message."""
    return ".".join([*_labels(message, offset), ""]), _end(message, offset)


def _labels(message: bytes, offset: int) -> Iterator[str]:
    pointers = 0
    while length := message[offset]:
        if length >= 0xC0:
            pointers += 1
            if pointers > _MOST_POINTERS:
                raise ValueError("a name that points at itself")
            offset = struct.unpack_from("!H", message, offset)[0] & 0x3FFF
            continue
        yield message[offset + 1 : offset + 1 + length].decode("ascii").lower()
        offset += 1 + length


def _end(message: bytes, offset: int) -> int:
    while message[offset]:
        if message[offset] >= 0xC0:
            return offset + 2
        offset += 1 + message[offset]
    return offset + 1
