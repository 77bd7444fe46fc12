"""What Services do for a client: who answers at an address, what each side sees, how fast a refusal is."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tulle.verify.probe.wire import decode, encode, family_of

HASTE = 0.05
"""Seconds after which a try that has no answer yet does not hold up the next one."""
PAUSE = 0.1
"""Seconds between tries while nobody has answered yet: the Service may be about to be programmed."""
SILENCE = 0.9
"""Seconds for which nobody may answer: what is lost is sent again only after one."""
KEEP_TIME = frozenset({"reach", "refuse", "silent"})
"""The kinds of checks that end in time by themselves, and say then what was seen."""
_WITHIN = 0.9
"""Of a check's time: the rest is for telling what was seen until then."""
STRETCH = 4
"""How many times a check's time tries may take while they are answered: a busy machine is no failure."""

Exchange = tuple[str, str, str]
"""Who answered, as whom it saw us, and at which ``address port`` the answer claims to be."""


class Meetings:
    """What the tries of one check have seen so far."""

    def __init__(self, wanted: frozenset[str], tries: int) -> None:
        self._wanted = wanted
        self._tries = tries
        self.met: dict[str, set[str]] = {}
        self.shown: set[str] = set()
        self.failed = 0
        self.error: str | None = None
        self.last = time.monotonic()

    def complete(self, made: int) -> bool:
        """All that were looked for have answered, or it was tried often enough."""
        return made >= self._tries or bool(self._wanted and self._wanted <= self.met.keys())

    def note(self, done: asyncio.Task[Exchange]) -> None:
        """A failure counts once somebody has answered; until then only its words are kept."""
        if done.cancelled():
            return
        failure = done.exception()
        if failure is None:
            name, peer, shown = done.result()
            self.met.setdefault(name, set()).add(peer)
            self.shown.add(shown)
            self.last = time.monotonic()
        else:
            self.failed += bool(self.met)
            self.error = _words(failure)


async def reach(check: dict[str, Any], timeout: float, progress: list[str]) -> dict[str, Any]:
    """Asks again and again, each time from a new socket; what fails before the first answer does not count.

    It takes until nobody has answered for ``timeout``, and ``STRETCH`` times that at most.

    ``{met: {name: [peers]}, shown: ["address port"], failed}``, and the ``error`` of a try that failed.
    """
    seen = Meetings(frozenset(check.get("wanted", ())), check["tries"])
    ways = ASKING[check["transport"]]
    patience = _WITHIN * timeout
    limit = time.monotonic() + STRETCH * patience
    waiting: set[asyncio.Task[Exchange]] = set()
    made = 0
    while not seen.complete(made) and time.monotonic() < min(end := seen.last + patience, limit):
        task = asyncio.create_task(ways[made % len(ways)](check["address"], check["port"]))
        task.add_done_callback(seen.note)
        waiting.add(task)
        made += 1
        nobody_yet = not seen.met
        await asyncio.wait({task}, timeout=HASTE)
        if not seen.met:
            made = 0
            await asyncio.sleep(min(PAUSE, max(0, end - time.monotonic())) if task.done() else 0)
        elif nobody_yet:
            await _cancelled({each for each in waiting if not each.done()})
        waiting = {each for each in waiting if not each.done()}
    silent = await _drained(waiting, min(seen.last + patience, limit))
    if silent:
        seen.failed += silent
        seen.error = "no answer"
    error = seen.error if seen.failed or not seen.met else None
    met = {name: sorted(peers) for name, peers in seen.met.items()}
    return {"met": met, "shown": sorted(seen.shown), "failed": seen.failed, "error": error}


async def _drained(waiting: set[asyncio.Task[Exchange]], end: float) -> int:
    """How many tries have no answer when the time is over."""
    if not waiting:
        return 0
    _, silent = await asyncio.wait(waiting, timeout=max(HASTE, end - time.monotonic()))
    await _cancelled(silent)
    return len(silent)


async def _cancelled(tries: set[asyncio.Task[Exchange]]) -> None:
    for task in tries:
        task.cancel()
    await asyncio.gather(*tries, return_exceptions=True)


async def _ask_tcp(address: str, port: int) -> Exchange:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(encode({"size": 0}))
        header, _ = decode(await reader.readline() or b"{}")
        return _exchange(header, writer.get_extra_info("peername"))
    finally:
        writer.close()


async def _ask_udp(address: str, port: int) -> Exchange:
    loop = asyncio.get_running_loop()
    with socket.socket(family_of(address), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
        channel.connect((address, port))
        await loop.sock_sendall(channel, encode({}))
        header, _ = decode(await loop.sock_recv(channel, 65535))
        return _exchange(header, channel.getpeername())


async def _ask_udp_unconnected(address: str, port: int) -> Exchange:
    """To which each datagram's sender is shown, which a connected socket would hide."""
    loop = asyncio.get_running_loop()
    with socket.socket(family_of(address), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
        await loop.sock_sendto(channel, encode({}), (address, port))
        message, sender = await loop.sock_recvfrom(channel, 65535)
        return _exchange(decode(message)[0], sender)


def _exchange(header: dict[str, Any], shown: tuple[Any, ...]) -> Exchange:
    return str(header.get("name")), str(header.get("peer")), f"{shown[0]} {shown[1]}"


Ask = Callable[[str, int], Coroutine[Any, Any, Exchange]]
ASKING: dict[str, tuple[Ask, ...]] = {"tcp": (_ask_tcp,), "udp": (_ask_udp, _ask_udp_unconnected)}
"""The ways to ask, taken in turn; of the first, a refusal is heard."""


async def refuse(check: dict[str, Any], timeout: float, progress: list[str]) -> dict[str, Any]:
    """``error`` is the name of the errno, or what came instead of one; ``seconds`` how long it took.

    A datagram is sent again from time to time, as nobody owes an answer to a single one.
    """
    start = time.monotonic()
    try:
        async with asyncio.timeout(_WITHIN * timeout):
            name, *_ = await _insisting(check, timeout)
        error = f"{name} answers"
    except TimeoutError:
        error = "no answer"
    except OSError as failure:
        error = errno.errorcode.get(failure.errno or 0, str(failure))
    return {"error": error, "seconds": time.monotonic() - start}


async def _insisting(check: dict[str, Any], timeout: float) -> Exchange:
    ask, address, port = ASKING[check["transport"]][0], check["address"], check["port"]
    if check["transport"] == "tcp":
        return await ask(address, port)
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout / 10):
                return await ask(address, port)


def _words(failure: BaseException) -> str:
    if isinstance(failure, OSError):
        return errno.errorcode.get(failure.errno or 0, str(failure))
    return "an answer that no probe gives" if isinstance(failure, ValueError) else str(failure)


async def silent(check: dict[str, Any], timeout: float, progress: list[str]) -> dict[str, Any]:
    """``name`` of who answers within a short while, or as ``error`` why nobody does."""
    try:
        async with asyncio.timeout(min(SILENCE, _WITHIN * timeout)):
            name, *_ = await ASKING[check["transport"]][0](check["address"], check["port"])
        return {"name": name}
    except TimeoutError:
        return {"error": "no answer"}
    except OSError as failure:
        return {"error": _words(failure)}


async def health(check: dict[str, Any], timeout: float, progress: list[str]) -> dict[str, Any]:
    """``status`` of an answer over HTTP."""
    start = time.monotonic()
    reader, writer = await asyncio.open_connection(check["address"], check["port"])
    try:
        writer.write(b"GET /healthz HTTP/1.0\r\nHost: verify\r\n\r\n")
        version, status, *_ = (await reader.readline()).split(None, 2)
    finally:
        writer.close()
    if not version.startswith(b"HTTP/"):
        raise ValueError("not HTTP")
    return {"status": int(status), "seconds": time.monotonic() - start}
