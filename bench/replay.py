"""An API that knows one cluster by heart: prepared lists, and watches that tell what they are told.

A real server would take its share of the time that is measured, and of the machine.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from aiohttp import web

from bench.objects import Object
from tulle.kernel import netns

_PAGE = 500
_VERSION = "1000"
_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: replay
clusters: [{{name: replay, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: replay, user: {{token: none}}}}]
contexts: [{{name: replay, context: {{cluster: replay, user: replay}}}}]
"""


class Replay:
    """``lists``: the objects by the last part of their URL's path; what is not in it is empty."""

    def __init__(self, lists: Mapping[str, Sequence[Object]]) -> None:
        self._pages = {name: _pages(objects) for name, objects in lists.items()}
        self._watches: defaultdict[str, list[web.StreamResponse]] = defaultdict(list)
        self._watched: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.listed: dict[str, float] = {}
        """When the last byte of a list was handed to the kernel, as ``time.perf_counter`` has it."""
        self.kubeconfig = ""

    @asynccontextmanager
    async def serving(self, place: Path) -> AsyncIterator[None]:
        """Answers on the loopback device of the network namespace at ``place``."""
        with netns.entered(place):
            listener = socket.create_server(("127.0.0.1", 0))
        self.kubeconfig = _KUBECONFIG.format(port=listener.getsockname()[1])
        application = web.Application()
        application.router.add_get("/{path:.*}", self._get)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            yield
        finally:
            await runner.cleanup()

    async def tell(self, name: str, event: bytes) -> None:
        """Sends an event, one line, to whoever watches."""
        for watch in self._watches[name]:
            await watch.write(event)

    async def watching(self, name: str) -> None:
        """Returns when there is somebody to tell."""
        await self._watched[name].wait()

    async def _get(self, request: web.Request) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        return await (self._watch if "watch" in request.query else self._list)(request, name)

    async def _list(self, request: web.Request, name: str) -> web.StreamResponse:
        pages = self._pages.get(name) or _pages([])
        number = int(request.query.get("continue") or 0)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        answer.content_length = len(pages[number])
        await answer.prepare(request)
        await answer.write(pages[number])
        await answer.write_eof()
        if number + 1 == len(pages):
            self.listed[name] = time.perf_counter()
        return answer

    async def _watch(self, request: web.Request, name: str) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        self._watches[name].append(answer)
        self._watched[name].set()
        await asyncio.Event().wait()
        return answer


def _pages(objects: Sequence[Object]) -> list[bytes]:
    starts = range(0, len(objects), _PAGE) or [0]
    last = len(starts) - 1
    return [
        msgspec.json.encode(
            {
                "metadata": {"resourceVersion": _VERSION} | ({"continue": str(i + 1)} if i < last else {}),
                "items": objects[start : start + _PAGE],
            }
        )
        for i, start in enumerate(starts)
    ]
