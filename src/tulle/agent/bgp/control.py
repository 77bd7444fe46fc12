"""BIRD's control socket: commands and their answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tulle.errors import TulleError

SOCKET = "state/bird.ctl"
"""Relative to the folder of a BIRD."""
SHOW = "show protocols all"
PATIENCE = 5.0
"""Seconds for an answer."""
_PROBLEMS = ("8", "9")  # first digits of BIRD's codes for what went wrong


class BirdGone(TulleError):
    """No BIRD answers at the control socket."""


class Control:
    """BIRD's control protocol: lines with four digits and what they are about; the last one has a blank
    after the digits, those before a minus. A line that begins with a blank has the digits of the one before.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        peer: socket.socket = writer.get_extra_info("socket")
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.pid: int = struct.unpack("3i", credentials)[0]

    async def greeting(self) -> None:
        await self._answer()

    async def command(self, text: str) -> list[str]:
        """The answer's lines without the digits. Raises ``TulleError`` when BIRD calls it wrong."""
        self._writer.write(text.encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> list[str]:
        lines: list[str] = []
        while True:
            line = (await self._reader.readline()).decode(errors="replace").rstrip("\n")
            if not line:
                raise EOFError("it closed the connection")
            if line[0] == "+":  # what it logs meanwhile
                continue
            more = line[0] == " "
            lines.append(line[1:] if more else line[5:])
            if not more and line[4:5] == " ":
                if line.startswith(_PROBLEMS):
                    raise TulleError(f"BIRD: {lines[-1]}")
                return lines


@asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[Control]:
    """By way of a descriptor: the path may be longer than a socket's address. Raises ``BirdGone``."""
    try:
        there = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BirdGone(f"there is no BIRD: {error}") from error
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{there}/{SOCKET}")
    except OSError as error:
        raise BirdGone(f"there is no BIRD: {error}") from error
    finally:
        os.close(there)
    try:
        yield Control(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(folder: Path) -> list[str]:
    """The lines of ``show protocols all``, for whoever is not the agent. Raises ``BirdGone``."""
    try:
        async with connected(folder) as control, asyncio.timeout(PATIENCE):
            await control.greeting()
            return await control.command(SHOW)
    except (TimeoutError, EOFError, OSError) as error:
        raise BirdGone(f"BIRD does not answer: {error}") from error
