"""The probe's server, as the tests of its clients need it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tulle.verify.probe.server import Server


@contextlib.asynccontextmanager
async def serving(port: int) -> AsyncIterator[None]:
    """Within the block it answers on ``port`` as ``me``."""
    server = asyncio.create_task(Server("me", port).run(), name="server")
    try:
        while not server.done():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("::1", port)
                writer.close()
                break
            await asyncio.sleep(0)
        yield
    finally:
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server
