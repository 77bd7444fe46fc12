"""Carries checks out, many at a time, and says of each what was seen."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from tulle.verify.probe import icmp, names, service
from tulle.verify.probe.wire import decode, encode, family_of, payload

AT_ONCE = 128
ATTEMPTS = 3
"""Datagrams may be lost on a healthy network: so many are tried within a check's time."""

Answer = dict[str, Any]


class Unanswered(Exception):
    """The check failed, in words."""


async def check_all(checks: list[dict[str, Any]], timeout: float) -> list[Answer]:
    """``[{id, name, peer, error, …}]`` for ``[{id, kind, …}]``; ``timeout`` is seconds each.

    ``name`` and ``peer`` are who answered and as whom it saw us, None where that is not known. What is
    judged by the time it took comes first, as so many others at once would be what takes the time.
    """
    slots = asyncio.Semaphore(AT_ONCE)

    async def bounded(check: dict[str, Any]) -> Answer:
        async with slots:
            return {"id": check["id"], "name": None, "peer": None, "error": None} | await _check(
                check, timeout
            )

    timed = [check for check in checks if check.get("timed")]
    rest = [check for check in checks if not check.get("timed")]
    return [
        answer
        for group in (timed, rest)
        for answer in await asyncio.gather(*(bounded(check) for check in group))
    ]


async def _check(check: dict[str, Any], timeout: float) -> Answer:
    progress: list[str] = []
    try:
        async with asyncio.timeout(None if check["kind"] in service.KEEP_TIME else timeout):
            return await KINDS[check["kind"]](check, timeout, progress)
    except TimeoutError:
        return {"error": f"no answer within {timeout:g} s{''.join(progress[-1:])}"}
    except Unanswered as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": os.strerror(error.errno) if error.errno else str(error)}
    except ValueError:
        return {"error": "an answer that no probe gives"}


async def _tcp(check: dict[str, Any], timeout: float, progress: list[str]) -> Answer:
    sent = payload(check["size"])
    reader, writer = await asyncio.open_connection(check["address"], check["port"])
    try:
        writer.write(encode({"size": len(sent)}, sent))
        progress.append(", though the connection stands")
        header, _ = decode(await reader.readline() or b"{}")
        received = bytearray()
        while len(received) < len(sent):
            chunk = await reader.read(65536)
            if not chunk:
                raise Unanswered(f"closed after {len(received)} of {len(sent)} bytes")
            received += chunk
            progress.append(f" after {len(received)} of {len(sent)} bytes")
    finally:
        writer.close()
    return _compared(header, sent, bytes(received))


async def _udp(check: dict[str, Any], timeout: float, progress: list[str]) -> Answer:
    sent = payload(check["size"])
    header, received = await _ask(check["address"], check["port"], {}, sent, timeout / ATTEMPTS)
    return _compared(header, sent, received)


async def _ask(
    address: str, port: int, question: dict[str, Any], body: bytes, interval: float
) -> tuple[dict[str, Any], bytes]:
    """Asks over UDP every ``interval`` seconds until an answer comes; the caller limits the time."""
    loop = asyncio.get_running_loop()
    with socket.socket(family_of(address), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
        channel.connect((address, port))
        while True:
            with contextlib.suppress(TimeoutError):
                try:
                    await loop.sock_sendall(channel, encode(question, body))
                    async with asyncio.timeout(interval):
                        return decode(await loop.sock_recv(channel, 65535))
                except OSError as error:
                    if error.errno != errno.EMSGSIZE:  # which says that the path's MTU is known now
                        raise
                    await asyncio.sleep(0)


async def _icmp(check: dict[str, Any], timeout: float, progress: list[str]) -> Answer:
    """An echo, and then a question over UDP as whom the other side saw it; that may go unanswered."""
    address, token = check["address"], icmp.new_token()
    await _echo(address, token, timeout / ATTEMPTS)
    with contextlib.suppress(TimeoutError, OSError, ValueError):
        async with asyncio.timeout(timeout / ATTEMPTS):
            question = {"token": token.hex()}
            header, _ = await _ask(address, check["port"], question, b"", timeout / ATTEMPTS / 2)
            return {"name": header.get("name"), "peer": header.get("echo")}
    return {}


async def _echo(address: str, token: bytes, interval: float) -> None:
    loop = asyncio.get_running_loop()
    family = family_of(address)
    with icmp.open_socket(family) as channel:
        channel.connect((address, 0))
        raw = channel.type == socket.SOCK_RAW
        while True:
            await loop.sock_sendall(channel, icmp.request(family, token))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    wanted = (icmp.ECHO[family].reply, token)
                    while icmp.parse(family, raw, await loop.sock_recv(channel, 65535)) != wanted:
                        pass
                    return


async def _bind(check: dict[str, Any], timeout: float, progress: list[str]) -> Answer:
    """Takes a port, as a second server would: the error is the name of the errno."""
    with socket.socket(family_of(check["address"]), socket.SOCK_STREAM) as taker:
        try:
            taker.bind((check["address"], check["port"]))
        except OSError as error:
            return {"error": errno.errorcode.get(error.errno or 0, str(error))}
    return {}


def _compared(header: dict[str, Any], sent: bytes, received: bytes) -> Answer:
    if received != sent:
        raise Unanswered(f"{len(received)} bytes came back that are not the {len(sent)} that were sent")
    return {"name": header.get("name"), "peer": header.get("peer")}


KINDS: dict[str, Callable[[dict[str, Any], float, list[str]], Awaitable[Answer]]] = {
    "tcp": _tcp,
    "udp": _udp,
    "icmp": _icmp,
    "bind": _bind,
    "reach": service.reach,
    "refuse": service.refuse,
    "silent": service.silent,
    "health": service.health,
    "query": names.query,
    "library": names.library,
}
