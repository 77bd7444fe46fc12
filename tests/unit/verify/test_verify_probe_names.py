"""The probe's own questions for names, against a server on loopback that answers with given bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.ports import open_pair

from tulle.verify.probe import names
from tulle.verify.probe.client import check_all

OWNER = b"\xc0\x0c"
"""Points at the question's name."""


def record(kind: int, data: bytes) -> bytes:
    return OWNER + struct.pack("!HHIH", kind, 1, 30, len(data)) + data


def response(query: bytes, *answers: bytes, flags: int = 0x8000) -> bytes:
    """To a query with one question and the EDNS record at its end."""
    question = query[12:-11]
    return query[:2] + struct.pack("!5H", flags, 1, len(answers), 0, 0) + question + b"".join(answers)


class Server:
    """UDP and TCP on one port; ``udp`` and ``tcp`` turn a query into the answer, None into none."""

    def __init__(self) -> None:
        self.queries: list[bytes] = []
        self.udp = self.tcp = response

    def datagram(self, channel: socket.socket) -> None:
        query, peer = channel.recvfrom(512)
        self.queries.append(query)
        channel.sendto(self.udp(query), peer)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            answer = self.tcp(await reader.readexactly(length))
            writer.write(struct.pack("!H", len(answer)) + answer)
        writer.close()


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    listener, channel = open_pair()
    with channel:
        loop.add_reader(channel, server.datagram, channel)
        async with await asyncio.start_server(server.stream, sock=listener):
            yield channel.getsockname()[1]
        loop.remove_reader(channel)


async def ask(port: int, transport: str, kind: str = "A", timeout: float = 10.0) -> dict[str, Any]:
    question = {"id": 1, "kind": "query", "address": "127.0.0.1", "port": port, "transport": transport}
    (answer,) = await check_all([question | {"name": "x.test.", "type": kind, "timed": True}], timeout)
    return answer


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_records_of_each_kind(transport: str) -> None:
    server = Server()
    answers = [
        record(1, socket.inet_aton("10.0.0.1")),
        record(28, socket.inet_pton(socket.AF_INET6, "fd00::1")),
        record(33, struct.pack("!3H", 0, 100, 80) + b"\x01A" + OWNER),
        record(5, b"\x01b\x04TEST\0"),
        record(12, OWNER),
        record(46, b"signature"),
    ]
    server.udp = server.tcp = lambda query: response(query, *answers)
    async with serving(server) as port:
        answer = await ask(port, transport)
    assert (answer["error"], answer["rcode"]) == (None, "NOERROR")
    assert answer["records"] == [
        *("A 10.0.0.1", "AAAA fd00::1", "CNAME b.test.", "PTR x.test.", "SRV 80 a.x.test."),
    ]
    assert 0 < answer["seconds"] < 10


async def test_what_is_asked() -> None:
    server = Server()
    async with serving(server) as port:
        await ask(port, "udp", "AAAA")
    (query,) = server.queries
    assert query[
        2:
    ] == b"\x01\0\0\x01\0\0\0\0\0\x01" + b"\x01x\x04test\0\0\x1c\0\x01" + b"\0\0\x29\x04\xd0" + bytes(6)


@pytest.mark.parametrize(
    ("flags", "rcode"), [(0x8003, "NXDOMAIN"), (0x8002, "SERVFAIL"), (0x8009, "rcode 9")]
)
async def test_response_codes(flags: int, rcode: str) -> None:
    server = Server()
    server.udp = lambda query: response(query, flags=flags)
    async with serving(server) as port:
        answer = await ask(port, "udp")
    assert (answer["rcode"], answer["records"]) == (rcode, [])


async def test_d21_what_is_cut_off_is_asked_for_over_tcp() -> None:
    server = Server()
    server.udp = lambda query: response(query, flags=0x8200)
    server.tcp = lambda query: response(query, record(1, bytes(4)))
    async with serving(server) as port:
        assert (await ask(port, "udp"))["records"] == ["A 0.0.0.0"]


async def test_datagrams_that_answer_something_else_are_passed_over() -> None:
    server = Server()
    server.udp = lambda query: b"\0" + response(query)
    async with serving(server) as port:
        assert (await ask(port, "udp", timeout=0.2))["error"] == "no answer within 0.2 s"


@pytest.mark.parametrize(
    "junk", [b"", b"\x80", struct.pack("!5H", 0x8000, 1, 9, 0, 0) + b"\xc0\x0c" + bytes(20)]
)
async def test_answers_that_make_no_sense(junk: bytes) -> None:
    server = Server()
    server.tcp = lambda query: query[:2] + junk
    async with serving(server) as port:
        assert (await ask(port, "tcp"))["error"] == "an answer that no probe gives"


async def test_nobody_there(closed_port: int) -> None:
    for transport in ("udp", "tcp"):
        assert (await ask(closed_port, transport))["error"] == "Connection refused"


async def test_the_library() -> None:
    asked = [{"id": n, "kind": "library", "name": name} for n, name in enumerate(("127.0.0.1", "x..y"))]
    right, wrong = await check_all(asked, 10.0)
    assert (right["records"], right["error"]) == (["127.0.0.1"], None)
    assert wrong["error"]


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".test"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="is not a domain name"):
        names.encode(name, 1)


def test_resolv_conf(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# x\nsearch old\nnameserver 10.96.0.10\n\nnameserver fd00::a\nsearch a.svc.x svc.x\n")
    assert names.resolver(file) == {"servers": ["10.96.0.10", "fd00::a"], "search": ["a.svc.x", "svc.x"]}
    assert names.resolver(tmp_path / "none") == {"servers": [], "search": []}
