"""Watches: the changes of one kind as a stream of JSON lines."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from tulle.apiserver import reading, status
from tulle.apiserver.kinds import Kind
from tulle.apiserver.requests import Target, flag, number
from tulle.apiserver.selectors import Predicate
from tulle.apiserver.store import Event, Expired, Store, frame
from tulle.apiserver.views import View

BOOKMARK_SECONDS = 60.0
SHORTEST_SECONDS = 1800
BACKLOG = 10_000
"""Changes that a watcher may be behind before it is cut off; it then resumes from where it was."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which changes one watch sees, and as what: leaving the selection deletes, entering it adds."""

    kind: Kind
    view: View
    namespace: str
    chosen: Predicate | None

    def matches(self, obj: dict[str, Any]) -> bool:
        if self.namespace and obj["metadata"].get("namespace") != self.namespace:
            return False
        return self.chosen is None or self.chosen(obj)

    def line(self, event: Event) -> bytes:
        """The line to send, empty when this watch does not see the change."""
        change, obj = event.type, event.record.obj
        if self.namespace and obj["metadata"].get("namespace") != self.namespace:
            return b""
        if self.chosen is not None and change != "ADDED":
            before = event.previous is None or self.chosen(event.previous)
            after = change == "MODIFIED" and self.chosen(obj)
            if not before and not after:
                return b""
            change = "MODIFIED" if before and after else "DELETED" if before else "ADDED"
        elif self.chosen is not None and not self.chosen(obj):
            return b""
        plain = self.view.form == "Object" and self.kind.present is None
        return (
            event.frame if plain and change == event.type else self.view.line(self.kind, change, event.record)
        )


class Watches:
    """All watches of the server, so that it can end them when it stops."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ends: set[asyncio.Event] = set()
        self._stopping = False

    def stop(self) -> None:
        """Ends every watch after what it has still to send."""
        self._stopping = True
        for wake in self._ends:
            wake.set()

    async def serve(
        self, request: web.BaseRequest, kind: Kind, asked: Target, query: Mapping[str, str], view: View
    ) -> web.StreamResponse:
        """Streams until the client goes, its timeoutSeconds are over, or the server stops."""
        chosen, _ = reading.selection(kind, query)
        seen = Filter(kind, view, asked.namespace, chosen)
        wake, queue = asyncio.Event(), deque[Event]()

        def listener(event: Event) -> None:
            queue.append(event)
            wake.set()

        self._store.flush()
        head = self._initial(seen, query)
        unsubscribe = self._store.listen(kind.stored, listener)
        self._ends.add(wake)
        try:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(head)
            seconds = number(query, "timeoutSeconds", 0) or SHORTEST_SECONDS * (1 + random.random())
            if not head.startswith(b'{"type":"ERROR"'):
                await self._stream(response, seen, queue, wake, seconds, flag(query, "allowWatchBookmarks"))
            await response.write_eof()
        finally:
            unsubscribe()
            self._ends.discard(wake)
        return response

    async def _stream(
        self,
        response: web.StreamResponse,
        seen: Filter,
        queue: deque[Event],
        wake: asyncio.Event,
        seconds: float,
        bookmarks: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not self._stopping and len(queue) < BACKLOG and (left := end - loop.time()) > 0:
            quiet = False
            try:
                async with asyncio.timeout(min(left, BOOKMARK_SECONDS)):
                    await wake.wait()
            except TimeoutError:
                quiet = True
            # What is on its way must come before a bookmark that says that it has come.
            self._store.flush()
            lines = [seen.line(event) for event in queue]
            queue.clear()
            wake.clear()
            if quiet and bookmarks:
                lines.append(seen.view.bookmark(seen.kind, self._store.version))
            if data := b"".join(lines):
                await response.write(data)

    def _initial(self, seen: Filter, query: Mapping[str, str]) -> bytes:
        """What a watch begins with: the present objects, or the changes since a version."""
        since, whole = query.get("resourceVersion", ""), flag(query, "sendInitialEvents")
        if whole and query.get("resourceVersionMatch") != "NotOlderThan":
            detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise status.bad_request(f"resourceVersionMatch: Forbidden: {detail}")
        if whole or ("sendInitialEvents" not in query and since in ("", "0")):
            found = self._store.scan(seen.kind.stored, seen.namespace)
            lines = [seen.view.line(seen.kind, "ADDED", r) for _, r in found if seen.matches(r.obj)]
            if whole and flag(query, "allowWatchBookmarks"):
                lines.append(seen.view.bookmark(seen.kind, self._store.version, initial_end=True))
            return b"".join(lines)
        version = number(query, "resourceVersion", 0) or self._store.version
        try:
            return b"".join(map(seen.line, self._store.since(seen.kind.stored, version)))
        except Expired as error:
            return frame("ERROR", msgspec.json.encode(status.body(status.expired(str(error)))))
