"""The one gRPC call that probes make: ``grpc.health.v1.Health/Check``, over HTTP/2 without TLS.

Of HTTP/2 (RFC 9113) this needs four frames out and one in: the answer's headers are never decoded, because
its body alone says whether the service is healthy, and an answer without a body is a failure.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM: Final = 0x1
_END_HEADERS: Final = 0x4
_ACK: Final = 0x1
_STREAM: Final = 1
_SERVING: Final = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
_PREFIX: Final = 5  # gRPC: compressed flag, and four bytes of length


async def check(host: str, port: int, service: str) -> str | None:
    """None when the service says SERVING, else what it said instead. Raises ``OSError`` or ``EOFError``."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + request(f"{host}:{port}", service))
        body = b""
        async for kind, flags, payload in _frames(reader):
            if kind == _DATA:
                body += payload
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                writer.write(_frame(kind, _ACK, 0, b"" if kind == _SETTINGS else payload))
            ended = kind in (_DATA, _HEADERS) and flags & _END_STREAM
            if ended or kind in (_RESET, _GOAWAY):
                break
        return None if body[_PREFIX:] == _SERVING else _reason(body)
    finally:
        writer.close()


def _reason(body: bytes) -> str:
    return f"not SERVING, but status {body[-1]}" if len(body) > _PREFIX else "the service did not say SERVING"


def request(authority: str, service: str) -> bytes:
    """HEADERS and DATA of the call."""
    name = service.encode()
    message = b"\x0a" + bytes([len(name)]) + name if name else b""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(_literal(key, value) for key, value in headers.items())
    body = struct.pack("!BI", 0, len(message)) + message
    return _frame(_HEADERS, _END_HEADERS, _STREAM, block) + _frame(_DATA, _END_STREAM, _STREAM, body)


def _literal(name: str, value: str) -> bytes:
    """A header field without indexing (RFC 7541, section 6.2.2); lengths up to 126 take one byte."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + payload


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, int, bytes]]:
    while True:
        head = await reader.readexactly(9)
        length = int.from_bytes(head[:3], "big")
        yield head[3], head[4], await reader.readexactly(length)
