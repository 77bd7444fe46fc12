"""How soon a new Service has its name: from its creation, as a watch tells it, to the first answer."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import uvloop

from bench import namespaces, objects
from bench.objects import Object
from bench.replay import Replay
from tulle.errors import LabError
from tulle.kernel import netns

_ADDRESS = "10.96.0.10"
_PATIENCE = 30.0  # seconds


def delays(folder: Path, services: int, count: int) -> list[float]:
    """Milliseconds for each of ``count`` Services that come to ``services`` others. Raises ``LabError``."""
    return uvloop.run(_delays(folder, services, count))


async def _delays(folder: Path, services: int, count: int) -> list[float]:
    folder.mkdir()
    replay = Replay({"services": [objects.service(number, ("ipv4",)) for number in range(services)]})
    with ExitStack() as stack:
        place = namespaces.make(folder / "netns", stack)
        async with replay.serving(place):
            (folder / "kubeconfig").write_text(replay.kubeconfig)
            _start(folder, place, stack)
            await replay.watching("services")
            with netns.entered(place):
                asker = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            asker.setblocking(False)
            asker.connect((_ADDRESS, 53))
            await _resolvable(asker, objects.service(services - 1, ("ipv4",)))
            return [await _announce(replay, asker, services + number) for number in range(count)]


def _start(folder: Path, place: Path, stack: ExitStack) -> None:
    command = [sys.executable, "-m", "tulle", "dns", "--assign", f"--listen={_ADDRESS}"]
    command += [f"--kubeconfig={folder / 'kubeconfig'}", f"--state-dir={folder / 'state'}"]
    with (folder / "log").open("wb") as log, netns.entered(place):
        process = subprocess.Popen(command, stdout=log, stderr=log)
    stack.callback(namespaces.end, process)


async def _announce(replay: Replay, asker: socket.socket, number: int) -> float:
    made = objects.service(number, ("ipv4",))
    event = msgspec.json.encode({"type": "ADDED", "object": made}) + b"\n"
    begin = time.perf_counter()
    await replay.tell("services", event)
    await _resolvable(asker, made)
    return (time.perf_counter() - begin) * 1000


async def _resolvable(asker: socket.socket, service: Object) -> None:
    """Asks until there is an answer; before that, there is no such name, or nobody who could say it."""
    meta = service["metadata"]
    query = _query(f"{meta['name']}.{meta['namespace']}.svc.cluster.local")
    loop = asyncio.get_running_loop()
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            await loop.sock_sendall(asker, query)
            answer = await asyncio.wait_for(loop.sock_recv(asker, 512), 0.05)
        except (TimeoutError, ConnectionRefusedError):
            continue
        if answer[6:8] != b"\0\0":
            return
    raise LabError(f"tulle dns does not answer for {meta['name']}")


def _query(name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
