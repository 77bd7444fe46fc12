"""One exec over a WebSocket: Kubernetes' remote command protocol, versions 4 and 5."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import tempfile
import termios
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import ClientConnectionError, WSMsgType, web

from tulle.lab.kubelet.container import ContainerLife
from tulle.lab.kubelet.runtime import Execution

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
"""First byte of each message. CLOSE is followed by the channel that ends (version 5)."""

_CHUNK: Final = 1 << 15
Write = Callable[[bytes], Awaitable[None]]


class _Size(msgspec.Struct, rename="pascal"):
    width: int
    height: int


class Session:
    """Runs ``command`` in the container and passes its streams on."""

    def __init__(
        self, channel: web.WebSocketResponse, container: ContainerLife, command: Sequence[str]
    ) -> None:
        self._channel = channel
        self._container = container
        self._command = command

    async def run(self, wants_input: bool) -> None:
        """With separate output streams."""
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        execution = await self._container.execute(
            self._command, stdin=pipe if wants_input else null, stderr=pipe
        )
        child = execution.child
        assert child.stdout and child.stderr
        pumps = [self._pump(STDOUT, child.stdout.read), self._pump(STDERR, child.stderr.read)]
        await self._converse(execution, pumps, _writer(child.stdin), None)

    async def run_with_terminal(self) -> None:
        """With a terminal, which crun makes and hands over through a socket."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            console = Path(folder) / "console"
            listener.bind(str(console))
            listener.listen()
            execution = await self._container.execute(
                self._command, console, asyncio.subprocess.DEVNULL, asyncio.subprocess.STDOUT
            )
            terminal = await self._receive_terminal(listener, execution)
        if terminal is None:
            assert execution.child.stdout
            pumps = [self._pump(STDOUT, execution.child.stdout.read)]
            await self._converse(execution, pumps, _writer(None), None)
            return
        try:
            await self._converse(
                execution, [self._pump(STDOUT, _Terminal(terminal).read)], _Terminal(terminal).write, terminal
            )
        finally:
            os.close(terminal)

    async def _receive_terminal(self, listener: socket.socket, execution: Execution) -> int | None:
        """None when the command could not be started."""
        listener.setblocking(False)
        accepting = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(listener))
        ended = asyncio.ensure_future(execution.child.wait())
        await asyncio.wait({accepting, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not accepting.done():
            accepting.cancel()
            return None
        connection, _ = accepting.result()
        with connection:
            connection.setblocking(True)
            _, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, connection, 4096, 1)
        return descriptors[0]

    async def _converse(
        self, execution: Execution, pumps: list[Any], write: Write, terminal: int | None
    ) -> None:
        """Until the command ends, or nobody listens any more: then it is killed."""
        hearing = asyncio.create_task(self._hear(write, terminal))
        ending = asyncio.create_task(self._until_end(execution, pumps))
        await asyncio.wait({hearing, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            await execution.kill()
        hearing.cancel()
        code = await ending
        with contextlib.suppress(ClientConnectionError):
            await self._channel.send_bytes(bytes([ERROR]) + result(code))
            await self._channel.close()
        await asyncio.gather(hearing, return_exceptions=True)

    async def _until_end(self, execution: Execution, pumps: list[Any]) -> int:
        await asyncio.gather(*pumps)
        return await execution.finish()

    async def _pump(self, stream: int, read: Callable[[int], Awaitable[bytes]]) -> None:
        with contextlib.suppress(ClientConnectionError):
            while chunk := await read(_CHUNK):
                await self._channel.send_bytes(bytes([stream]) + chunk)

    async def _hear(self, write: Write, terminal: int | None) -> None:
        """What the client sends, until it leaves."""
        async for message in self._channel:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            stream, data = message.data[0], message.data[1:]
            if stream == STDIN:
                await write(data)
            elif stream == CLOSE and data == bytes([STDIN]):
                await write(b"")
            elif stream == RESIZE and terminal is not None:
                size = msgspec.json.decode(data, type=_Size)
                fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.height, size.width, 0, 0))


async def refuse(channel: web.WebSocketResponse, message: str) -> None:
    """Ends the conversation before it began."""
    status = {"metadata": {}, "status": "Failure", "reason": "BadRequest", "message": message, "code": 400}
    await channel.send_bytes(bytes([ERROR]) + msgspec.json.encode(status))
    await channel.close()


def result(code: int) -> bytes:
    """The Status that the error stream ends with."""
    if code == 0:
        return msgspec.json.encode({"metadata": {}, "status": "Success"})
    return msgspec.json.encode(
        {
            "metadata": {},
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": f"command terminated with exit code {code}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    )


def _writer(stdin: asyncio.StreamWriter | None) -> Write:
    """Writes to the command's input; nothing (``b""``) closes it."""

    async def write(data: bytes) -> None:
        if stdin is None or stdin.is_closing():
            return
        with contextlib.suppress(ConnectionError):
            if data:
                stdin.write(data)
                await stdin.drain()
            else:
                stdin.close()

    return write


class _Terminal:
    """The terminal's descriptor, read when there is something to read."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    async def read(self, size: int) -> bytes:
        """Empty once the last process on the other side has gone."""
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, ready.set)
        try:
            await ready.wait()
            return os.read(self._descriptor, size)
        except OSError:
            return b""
        finally:
            loop.remove_reader(self._descriptor)

    async def write(self, data: bytes) -> None:
        """An end of input is the character that says so on a terminal (Ctrl-D)."""
        view = memoryview(data or b"\x04")
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                await asyncio.sleep(0.01)
