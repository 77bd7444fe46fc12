"""What the probe tells of many tries to one address, and of refusals, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from probe_server import serving
from tests.ports import closed

from tulle.verify.probe import service
from tulle.verify.probe.client import check_all
from tulle.verify.probe.wire import encode

WAYS = [(t, a) for t in ("tcp", "udp") for a in ("127.0.0.1", "::1")]


async def check(
    kind: str, transport: str, address: str, port: int, timeout: float = 10.0, **more: Any
) -> Any:
    question = {"id": 7, "kind": kind, "transport": transport, "address": address, "port": port}
    (answer,) = await check_all([question | more], timeout)
    return answer


@pytest.mark.parametrize(("transport", "address"), WAYS)
async def test_who_answers_and_what_each_side_sees(transport: str, address: str) -> None:
    async with serving() as port:
        answer = await check("reach", transport, address, port, tries=3)
    assert (answer["error"], answer["failed"]) == (None, 0)
    assert answer["met"] == {"me": [address]}
    assert answer["shown"] == [f"{address} {port}"]


@contextlib.asynccontextmanager
async def taking_turns(
    names: list[str | None], listener: socket.socket | None = None
) -> AsyncIterator[tuple[int, list[int]]]:
    """A server that answers as each of ``names`` in turn, and as None not at all; its port, and how often."""
    turns, counted = itertools.cycle(names), [0]
    silent: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        counted[0] += 1
        name = next(turns)
        if name is None:
            silent.append(writer)
            return
        writer.write(encode({"name": name, "peer": "x"}))
        writer.close()

    sock = listener or socket.create_server(("127.0.0.1", 0))
    async with await asyncio.start_server(answer, sock=sock) as server:
        yield server.sockets[0].getsockname()[1], counted
        for writer in silent:
            writer.close()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No try is given up before its answer is there."""
    monkeypatch.setattr(service, "HASTE", 10.0)


async def test_it_ends_when_all_that_were_looked_for_are_met(unhurried: None) -> None:
    async with taking_turns(["a", "b", "c"]) as (port, counted):
        answer = await check("reach", "tcp", "127.0.0.1", port, tries=100, wanted=["a", "b"])
    assert (set(answer["met"]), counted[0]) == ({"a", "b"}, 2)


async def test_it_ends_when_it_was_tried_often_enough(unhurried: None) -> None:
    async with taking_turns(["a", "b"]) as (port, counted):
        answer = await check("reach", "tcp", "127.0.0.1", port, tries=9, wanted=["a", "nobody"])
    assert (set(answer["met"]), counted[0], answer["failed"]) == ({"a", "b"}, 9, 0)


async def test_an_endpoint_that_is_silent_does_not_hide_the_others() -> None:
    async with taking_turns(["a", None, "b"]) as (port, _):
        answer = await check("reach", "tcp", "127.0.0.1", port, timeout=1.0, tries=6, wanted=["a", "b", "c"])
    assert set(answer["met"]) == {"a", "b"}
    assert (answer["failed"] > 0, answer["error"]) == (True, "no answer")


async def test_what_comes_before_the_first_answer_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service may be about to be programmed."""
    refused = asyncio.Event()
    note = service.Meetings.note

    def told(self: service.Meetings, done: asyncio.Task[service.Exchange]) -> None:
        note(self, done)
        refused.set()

    monkeypatch.setattr(service.Meetings, "note", told)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # and does not listen yet
        port = listener.getsockname()[1]
        asking = asyncio.create_task(check("reach", "tcp", "127.0.0.1", port, tries=1))
        await refused.wait()
        async with taking_turns(["me"], listener):
            answer = await asking
    assert (set(answer["met"]), answer["failed"], answer["error"]) == ({"me"}, 0, None)


@pytest.mark.parametrize(("transport", "address"), WAYS)
async def test_nobody_there(transport: str, address: str) -> None:
    with closed(address) as port:
        answer = await check("reach", transport, address, port, timeout=0.4, tries=2)
        assert (answer["met"], answer["error"] in ("ECONNREFUSED", "no answer")) == ({}, True)
        refused = await check("refuse", transport, address, port)
    assert refused["error"] == "ECONNREFUSED"
    assert 0 < refused["seconds"] < 10


async def test_silence_is_no_refusal() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        answer = await check("refuse", "udp", "127.0.0.1", silent.getsockname()[1], timeout=0.1)
    assert answer["error"] == "no answer"


async def test_an_answer_is_no_refusal() -> None:
    async with serving() as port:
        answer = await check("refuse", "tcp", "127.0.0.1", port)
    assert answer["error"] == "me answers"
