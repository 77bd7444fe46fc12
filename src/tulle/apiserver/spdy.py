"""SPDY/3.1 frames, as far as Kubernetes' remote command uses them. No I/O.

kubectl up to 1.30 execs and attaches over SPDY. Section numbers are those of the SPDY draft 3.1
(chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HEAD: Final = struct.Struct("!II")
"""Every frame begins so: what it is, then 8 bits of flags and 24 bits of length."""
FRAME_LIMIT: Final = 1 << 20
HEADER_LIMIT: Final = 16 * 1024
DATA_SIZE: Final = 1 << 16
"""Octets in one DATA frame of ours at most; of others at most FRAME_LIMIT."""

_U32: Final = struct.Struct("!I")
_CONTROL, _FIN, _VERSION = 1 << 31, 1, 3


class Malformed(ValueError):
    """The peer does not speak SPDY/3.1: its connection cannot go on."""


class Kind(IntEnum):
    """Types of control frames (2.6)."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class Reset(IntEnum):
    """Why a stream is refused (2.6.3)."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2


@dataclass(frozen=True, slots=True)
class SynStream:
    """The client opens ``stream``; ``fin`` says that it sends nothing on it."""

    stream: int
    headers: dict[str, str]
    fin: bool


@dataclass(frozen=True, slots=True)
class Data:
    """Octets of ``stream``; the last ones of that direction with ``fin``."""

    stream: int
    data: bytes
    fin: bool


@dataclass(frozen=True, slots=True)
class RstStream:
    """The client is done with both directions of ``stream``."""

    stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    """To be sent back as it is."""

    number: int


Frame = SynStream | Data | RstStream | Ping


def size_of(head: bytes) -> int:
    """Octets that follow ``head``, the first 8 of a frame; raises Malformed above FRAME_LIMIT."""
    size = int(HEAD.unpack(head)[1]) & 0xFFFFFF
    if size > FRAME_LIMIT:
        raise Malformed(f"a frame of {size} octets: at most {FRAME_LIMIT} are read")
    return size


class Decoder:
    """One direction of a connection: its headers are one zlib stream (2.6.10.1)."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(zdict=DICTIONARY)

    def decode(self, head: bytes, payload: bytes) -> Frame | None:
        """None for a frame that asks for nothing: settings, windows, GOAWAY, and unknown ones (2.2.1).

        Raises Malformed.
        """
        word, size = HEAD.unpack(head)
        fin = bool(size >> 24 & _FIN)
        if not word & _CONTROL:
            return Data(_stream(head), payload, fin)
        if word >> 16 & 0x7FFF != _VERSION:
            raise Malformed("a control frame of another version than 3")
        match word & 0xFFFF:
            case Kind.SYN_STREAM:
                return SynStream(_stream(payload), self._headers(payload[10:]), fin)
            case Kind.HEADERS:  # read all the same, or the next headers could not be inflated
                self._headers(payload[4:])
            case Kind.SYN_REPLY:
                raise Malformed("a reply to a stream that was never opened")
            case Kind.RST_STREAM:
                return RstStream(_stream(payload))
            case Kind.PING:
                return Ping(_number(payload))
        return None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflater.decompress(block, HEADER_LIMIT)
        except zlib.error as error:
            raise Malformed(f"headers that cannot be inflated: {error}") from error
        if len(plain) == HEADER_LIMIT:
            raise Malformed(f"headers of {HEADER_LIMIT} octets or more")
        words = _strings(plain)
        return dict(zip(words[::2], words[1::2], strict=True))


def _strings(plain: bytes) -> list[str]:
    """Names and values in turn: their number, then each with its length in front (2.6.10)."""
    found: list[str] = []
    at = _U32.size
    for _ in range(2 * min(_number(plain), HEADER_LIMIT)):
        start = at + _U32.size
        at = start + _number(plain[at:start])
        if at > len(plain):
            raise Malformed("headers that end too early")
        found.append(plain[start:at].decode("latin-1"))
    return found


def _number(data: bytes) -> int:
    """The 32 bits that ``data`` begins with."""
    if len(data) < _U32.size:
        raise Malformed("a frame that ends too early")
    return int(_U32.unpack_from(data)[0])


def _stream(data: bytes) -> int:
    """The 31 bits that name a stream; 0 names none."""
    number = _number(data) & 0x7FFFFFFF
    if not number:
        raise Malformed("a frame of stream 0")
    return number


class Encoder:
    """The other direction. Replies have no headers, but are part of one zlib stream all the same."""

    def __init__(self) -> None:
        self._deflater = zlib.compressobj(zdict=DICTIONARY)

    def reply(self, stream: int) -> bytes:
        """SYN_REPLY: the stream is accepted."""
        block = self._deflater.compress(_U32.pack(0)) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        return _control(Kind.SYN_REPLY, _U32.pack(stream) + block)


def data(stream: int, content: bytes = b"", *, fin: bool = False) -> bytes:
    """DATA frames that carry ``content``; one without any when it is empty."""
    starts = range(0, len(content) or 1, DATA_SIZE)
    frames = []
    for start in starts:
        part = content[start : start + DATA_SIZE]
        flags = _FIN if fin and start == starts[-1] else 0
        frames.append(HEAD.pack(stream, flags << 24 | len(part)) + part)
    return b"".join(frames)


def reset(stream: int, why: Reset) -> bytes:
    """RST_STREAM."""
    return _control(Kind.RST_STREAM, HEAD.pack(stream, why))


def ping(number: int) -> bytes:
    """PING."""
    return _control(Kind.PING, _U32.pack(number))


def window_update(stream: int, octets: int) -> bytes:
    """WINDOW_UPDATE: so much more may be sent on ``stream``, and on the connection as a whole (2.6.8)."""
    return b"".join(_control(Kind.WINDOW_UPDATE, HEAD.pack(which, octets)) for which in (stream, 0))


def go_away() -> bytes:
    """GOAWAY for a protocol error; the number of the last good stream is left out (2.6.6)."""
    return _control(Kind.GOAWAY, HEAD.pack(0, 1))


def _control(kind: Kind, payload: bytes) -> bytes:
    return HEAD.pack(_CONTROL | _VERSION << 16 | kind, len(payload)) + payload


_WORDS: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges "
    "age allow authorization cache-control connection content-base content-encoding content-language "
    "content-length content-location content-md5 content-range content-type date etag expect expires from "
    "host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location "
    "max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer "
    "transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK "
    "version HTTP/1.1 url public set-cookie keep-alive origin"
)
_REST: Final = (
    b"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    b"203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    b"403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    b"Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    b"chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    b"text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
_SPACED: Final = [word.replace("_", " ").encode() for word in _WORDS.split()]
DICTIONARY: Final = b"".join(_U32.pack(len(word)) + word for word in _SPACED) + _REST
"""What both zlib streams start from (2.6.10.1)."""
