"""The probe's echo requests, which need a raw socket."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tulle.verify.probe.client import check_all
from tulle.verify.probe.server import Server


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_echo_is_answered_and_its_sender_seen(unused_tcp_port: int, address: str) -> None:
    server = asyncio.create_task(Server("me", unused_tcp_port).run(), name="server")
    try:
        question = {"id": 1, "kind": "icmp", "address": address, "port": unused_tcp_port, "size": 0}
        while not server.done():
            (answer,) = await check_all([question], timeout=3.0)
            if answer["peer"]:
                break
        assert answer == {"id": 1, "name": "me", "peer": address, "error": None}
    finally:
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server
