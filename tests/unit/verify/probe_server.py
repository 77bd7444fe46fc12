"""The probe's server, as the tests of its clients need it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator

from tests.ports import open_pair

from tulle.verify.probe.client import check_all
from tulle.verify.probe.server import Server


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """Within the block it answers as ``me`` on the port that is yielded."""
    server, port = await _started()
    try:
        yield port
    finally:
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server


async def _started() -> tuple[asyncio.Task[None], int]:
    while True:
        stream, datagrams = open_pair("::")
        port = stream.getsockname()[1]
        stream.close()
        datagrams.close()
        server = asyncio.create_task(Server("me", port).run(), name="server")
        question = {"id": 0, "kind": "udp", "address": "::1", "port": port, "size": 0}
        while not server.done():
            (answer,) = await check_all([question], 10.0)
            if answer["name"] == "me":
                return server, port
        failure = server.exception()
        assert isinstance(failure, OSError) and failure.errno == errno.EADDRINUSE, failure
