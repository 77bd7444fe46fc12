"""The unix socket on which ``tulle-cni`` hands over its calls, and the queue of DEL calls it left.

A call is ``KEY=VALUE`` entries that end with NUL, one more NUL, and the plugin's standard input, up to
the end of the stream. The answer is ``0`` or ``1``, the plugin's exit code, its standard output, and a
newline; without that it was cut short.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tulle.agent import cni
from tulle.agent.calls import Calls
from tulle.errors import CniError

log = logging.getLogger(__name__)

_LARGEST_CALL = 4 << 20  # bytes; GC on a full node sends some hundred KiB
_PATIENCE = 10.0  # seconds for a caller to say what it wants


@asynccontextmanager
async def serving(path: Path, calls: Calls) -> AsyncIterator[None]:
    """Answers CNI calls at ``path``, which only root may reach, within the block."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                call = await _read_all(reader)
            writer.write(await answer(call, calls))
            await writer.drain()
        except (TimeoutError, ConnectionError) as error:
            log.warning("a CNI caller went away: %s", error or "it said nothing")
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    path.chmod(0o600)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while chunk := await reader.read(1 << 16):
        data += chunk
        if len(data) > _LARGEST_CALL:
            raise ConnectionError(f"more than {_LARGEST_CALL} bytes")
    return bytes(data)


async def answer(call: bytes, calls: Calls) -> bytes:
    """The answer to one call. Whatever goes wrong becomes an error object of CNI."""
    try:
        request = cni.parse_request(call)
        result = await calls.handle(request)
    except CniError as error:
        log.warning("CNI call refused with code %d: %s", error.code, error)
        return b"1" + cni.encode_error(cni.version_of(call), error) + b"\n"
    except Exception as error:
        log.exception("CNI call failed")
        failure = CniError(cni.INTERNAL, f"internal error: {error!r}", "see the log of tulle agent")
        return b"1" + cni.encode_error(cni.version_of(call), failure) + b"\n"
    log.info("%s %s%s", request.command, request.container_id, f" {request.pod}" if request.pod else "")
    return b"0" + result + b"\n"


async def drain_queue(queue: Path, calls: Calls) -> None:
    """Does what DEL calls asked for while no agent was there; ``tulle-cni`` has told that it succeeded."""
    if not queue.is_dir():
        return
    for path in sorted(queue.glob("[!.]*")):
        try:
            await calls.handle(cni.parse_request(path.read_bytes()))
            path.unlink()
        except CniError as error:
            log.error("a DEL that was queued cannot be read: %s", error)
            path.rename(path.with_name(f".{path.name}"))
        except OSError as error:
            log.error("a DEL that was queued: %s", error)
