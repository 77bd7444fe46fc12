"""Connections that stay: a server that tells its name to whoever asks, and a client that asks on all.

    python -m bench.holding serve PORT NAME
    python -m bench.holding hold ADDRESS PORT COUNT SECONDS

The client prints ``ready`` once all its connections are answered. For each line that it then reads it asks on
all of them, and prints how many answered within SECONDS, by the server's name, as JSON. NAME is one byte.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from bench import namespaces
from tulle.errors import LabError

_AT_ONCE = 64


def serve(place: Path, port: int, name: str, stack: ExitStack) -> None:
    """A server in the namespace at ``place``, until ``stack`` ends. Raises ``LabError``."""
    _started(place, ["serve", str(port), name], stack)


class Held:
    """``count`` connections from the namespace at ``place``, until ``stack`` ends. Raises ``LabError``."""

    def __init__(
        self, place: Path, address: str, port: int, count: int, seconds: float, stack: ExitStack
    ) -> None:
        self.count = count
        self._client = _started(place, ["hold", address, str(port), str(count), str(seconds)], stack)

    def ask(self) -> Counter[str]:
        """How many of the connections are answered, by who answers."""
        assert self._client.stdin and self._client.stdout
        self._client.stdin.write(b"\n")
        self._client.stdin.flush()
        return Counter(json.loads(self._client.stdout.readline()))


def _started(place: Path, arguments: list[str], stack: ExitStack) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.holding", *arguments]
    process = namespaces.start(place, command, stack, stdin=subprocess.PIPE)
    if not process.stdout or process.stdout.readline() != b"ready\n":
        raise LabError(f"{' '.join(arguments)} in {place.name} does not start")
    return process


async def _serve(port: int, name: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1):
                writer.write(name)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, ["0.0.0.0", "::"], port, backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()


async def _hold(address: str, port: int, count: int, seconds: float) -> None:
    """Few open at once, so that no listener's queue overflows."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def dial() -> socket.socket:
        async with gate:
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            made.setblocking(False)
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(made, (address, port)), seconds)
            if await _ask(made, seconds) is None:
                raise LabError(f"a new connection to {address} is not answered")
            return made

    held = await asyncio.gather(*(dial() for _ in range(count)))
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        answers = await asyncio.gather(*(_ask(each, seconds) for each in held))
        print(json.dumps(Counter(name for name in answers if name)), flush=True)


async def _ask(connection: socket.socket, seconds: float) -> str | None:
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(connection, b"?")
        return (await asyncio.wait_for(loop.sock_recv(connection, 1), seconds)).decode() or None
    except (OSError, TimeoutError):
        return None


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", port, name]:
            asyncio.run(_serve(int(port), name.encode()))
        case ["hold", address, port, count, seconds]:
            asyncio.run(_hold(address, int(port), int(count), float(seconds)))
        case _:
            sys.exit(__doc__)
