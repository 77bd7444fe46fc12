"""What the API server asks the kubelet for: logs and exec. On a unix socket of mode 0600."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aiohttp import web

from tulle.lab.inotify import Watch
from tulle.lab.kubelet.console import Session, refuse
from tulle.lab.kubelet.container import ContainerLife
from tulle.lab.kubelet.pod import PodLife

_CHUNK: Final = 1 << 16
PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")


async def serve(socket: Path, pods: Mapping[str, PodLife]) -> None:
    """For ever."""
    app = web.Application()
    server = _Server(pods)
    app.add_routes(
        [
            web.get("/healthz", server.healthz),
            web.get("/pods", server.list_pods),
            web.get("/containerLogs/{namespace}/{pod}/{container}", server.logs),
            web.get("/exec/{namespace}/{pod}/{container}", server.exec),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    socket.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(socket)).start()
    finally:
        os.umask(before)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


class _Server:
    def __init__(self, pods: Mapping[str, PodLife]) -> None:
        self._pods = pods

    async def healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def list_pods(self, _: web.Request) -> web.Response:
        return web.json_response([life.pod.title for life in self._pods.values()])

    def _container(self, request: web.Request) -> ContainerLife:
        """Raises ``HTTPNotFound``."""
        names = request.match_info
        title = f"{names['namespace']}/{names['pod']}"
        for life in self._pods.values():
            if life.pod.title == title and (container := life.container(names["container"])):
                return container
        raise web.HTTPNotFound(text=f"container {names['container']} of Pod {title} is not on this node")

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Lines are kept without their time, so ``timestamps`` shows the start of the container."""
        container, query = self._container(request), request.query
        previous = query.get("previous") == "true"
        file = container.output(previous)
        if not file.exists():
            what = "has no previous run" if previous else "has not started yet"
            raise web.HTTPBadRequest(text=f"container {container.spec.name} {what}")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        prefix = (
            f"{container.view().record.started_at} ".encode() if query.get("timestamps") == "true" else b""
        )
        following = query.get("follow") == "true" and not previous
        await _send(
            response, file, _start(file, query.get("tailLines")), prefix, container if following else None
        )
        return response

    async def exec(self, request: web.Request) -> web.WebSocketResponse:
        """What cannot be is said on the channel: of a refused WebSocket kubectl would show no reason."""
        query = request.query
        channel = web.WebSocketResponse(protocols=PROTOCOLS)
        await channel.prepare(request)
        try:
            container = self._container(request)
        except web.HTTPNotFound as error:
            await refuse(channel, error.text or "")
            return channel
        if not container.running:
            await refuse(channel, f"container {container.spec.name} does not run")
            return channel
        session = Session(channel, container, query.getall("command"))
        if _says_yes(query, "tty"):
            await session.run_with_terminal()
        else:
            await session.run(wants_input=_says_yes(query, "input") or _says_yes(query, "stdin"))
        return channel


def _says_yes(query: Mapping[str, str], name: str) -> bool:
    """The kubelet's own interface writes 1 where Kubernetes' API writes true."""
    return query.get(name) in ("1", "true")


def _start(file: Path, tail: str | None) -> int:
    """The offset of the last ``tail`` lines."""
    if tail is None:
        return 0
    lines = file.read_bytes().splitlines(keepends=True)
    count = int(tail)
    return sum(map(len, lines[: len(lines) - count])) if count else sum(map(len, lines))


async def _send(
    response: web.StreamResponse, file: Path, offset: int, prefix: bytes, live: ContainerLife | None
) -> None:
    """The file from ``offset``; with ``live``, also what that container still writes."""
    with Watch(file) as watch, file.open("rb") as source:
        source.seek(offset)
        while True:
            ended = live is None or not live.running or live.output() != file
            while chunk := source.read(_CHUNK):
                await response.write(_prefixed(chunk, prefix))
            if ended:
                return
            await watch.changed(1.0)


def _prefixed(chunk: bytes, prefix: bytes) -> bytes:
    return b"".join(prefix + line for line in chunk.splitlines(keepends=True)) if prefix else chunk
