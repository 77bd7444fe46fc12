"""The probe's echo requests, which need a raw socket."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tulle.kernel import netns
from tulle.verify.probe.client import check_all
from tulle.verify.probe.server import Server

PORT = 8099


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """The thread is in a namespace of its own, where nobody else has the port."""
    path = tmp_path / "netns"
    netns.create(path)
    try:
        with netns.entered(path):
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
    finally:
        netns.delete(path)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_echo_is_answered_and_its_sender_seen(alone: None, address: str) -> None:
    server = asyncio.create_task(Server("me", PORT).run(), name="server")
    try:
        question = {"id": 1, "kind": "icmp", "address": address, "port": PORT, "size": 0}
        while not server.done():
            (answer,) = await check_all([question], timeout=3.0)
            if answer["peer"]:
                break
        assert answer == {"id": 1, "name": "me", "peer": address, "error": None}
    finally:
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server
