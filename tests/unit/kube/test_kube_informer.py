"""The informer against a model of the API server that compacts, disconnects and restarts at random."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.errors import ApiError, ApiUnreachable, Gone, NotFound
from tulle.kube.backoff import Backoff
from tulle.kube.cache import Change
from tulle.kube.informer import Informer
from tulle.kube.resources import PODS, Item, Key, Resource
from tulle.kube.wire import ListResult, WatchEvent

Pod = dict[str, Any]


class ModelServer:
    """A collection with its history, as the API shows it. ``compact`` forgets the history."""

    def __init__(self) -> None:
        self.version = 1
        self.objects: dict[Key, Pod] = {}
        self.fail_next = 0
        self.failure: ApiError | ApiUnreachable = ApiUnreachable("connection refused")
        self.lists = 0
        self._history: list[WatchEvent[Pod]] = []
        self._oldest = 1
        self._session = 0
        self._news = asyncio.Event()

    def put(self, name: str, usable: bool = True) -> None:
        self.version += 1
        key = ("ns", name)
        kind = "MODIFIED" if key in self.objects else "ADDED"
        value = {"metadata": {"name": name, "namespace": "ns"}, "version": self.version}
        self.objects[key] = value
        self._record(kind, Item(key, str(self.version), value if usable else None))

    def delete(self, name: str) -> None:
        if self.objects.pop(("ns", name), None):
            self.version += 1
            self._record("DELETED", Item(("ns", name), str(self.version), None))

    def bookmark(self) -> None:
        self._record("BOOKMARK", Item(("", ""), str(self.version), None))

    def compact(self) -> None:
        """Watches that are not up to date get 410; those that run are cut off."""
        self._oldest = self.version
        self._history.clear()
        self.disconnect()

    def disconnect(self) -> None:
        self._session += 1
        self._tell()

    def _record(self, kind: Any, item: Item[Pod]) -> None:
        self._history.append(WatchEvent(kind, item))
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _maybe_fail(self) -> None:
        if self.fail_next:
            self.fail_next -= 1
            raise self.failure

    async def list(self, resource: Resource[Any], *selectors: str | None) -> ListResult[Any]:
        self._maybe_fail()
        self.lists += 1
        entries = [Item(key, str(value["version"]), value) for key, value in self.objects.items()]
        return ListResult(str(self.version), entries)

    async def watch(
        self, resource: Resource[Any], resource_version: str, **query: Any
    ) -> AsyncGenerator[WatchEvent[Any], None]:
        self._maybe_fail()
        seen = int(resource_version)
        if seen < self._oldest:
            raise Gone(410, "Expired", "too old resource version")
        session, position = self._session, 0
        while session == self._session:
            while position < len(self._history):
                event = self._history[position]
                position += 1
                if int(event.item.version) > seen or event.type == "BOOKMARK":
                    yield event
            await self._news.wait()
        raise ApiUnreachable("connection reset")


class Follower:
    """An informer, and what its change events add up to."""

    def __init__(self, server: ModelServer) -> None:
        self.informer = Informer(server, PODS, backoff=Backoff(base=0, cap=0))
        self.folded: dict[Key, Pod] = {}
        self.changes: list[str] = []
        self.informer.subscribe(self._apply)

    def _apply(self, change: Change[Pod]) -> None:
        assert self.folded.get(change.key) == change.old
        self.changes.append(f"{change.kind} {change.key[1]}")
        if change.new is None:
            del self.folded[change.key]
        else:
            self.folded[change.key] = change.new


async def settle() -> None:
    """Long enough for every task that can run to have run."""
    for _ in range(20):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def following(server: ModelServer) -> AsyncIterator[Follower]:
    follower = Follower(server)
    task = asyncio.create_task(follower.informer.run(), name="informer")
    try:
        await settle()
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


NAMES = st.sampled_from("abcd")
EDITS = st.tuples(st.sampled_from(["put", "put", "delete"]), NAMES)
TROUBLES = st.sampled_from(["nothing", "bookmark", "compact", "disconnect", "outage"])
ROUNDS = st.lists(st.tuples(st.lists(EDITS, max_size=6), TROUBLES, st.booleans()), max_size=8)
"""Each round: what is written, what goes wrong after it, and whether the informer hears of it in time."""


def trouble(server: ModelServer, kind: str) -> None:
    if kind == "outage":
        server.fail_next = 3
        server.disconnect()
    elif kind != "nothing":
        getattr(server, kind)()


@given(ROUNDS)
async def test_after_quiescence_the_copy_equals_the_collection(
    rounds: list[tuple[list[tuple[str, str]], str, bool]],
) -> None:
    server = ModelServer()
    async with following(server) as follower:
        for edits, kind, in_time in rounds:
            for edit, name in edits:
                getattr(server, edit)(name)
            if in_time:
                await settle()
            trouble(server, kind)
            await settle()
        assert dict(follower.informer.objects) == server.objects
        assert follower.folded == server.objects


async def test_an_outage_keeps_what_is_known_and_resumes_without_a_list() -> None:
    server = ModelServer()
    server.put("a")
    async with following(server) as follower:
        assert follower.informer.synced.is_set()
        server.fail_next = 10_000
        server.disconnect()
        await settle()
        assert list(follower.informer.objects) == [("ns", "a")]
        server.put("b")
        server.fail_next = 0
        await settle()
        assert follower.changes == ["added a", "added b"]
        assert server.lists == 1


async def test_a_resource_that_the_api_lacks_is_waited_for_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """An operator who has no use for a custom resource need not define it."""
    server = ModelServer()
    server.put("a")
    server.fail_next, server.failure = 10_000, NotFound(404, "NotFound", "404 page not found")
    with caplog.at_level(logging.INFO, "tulle.kube.informer"):
        async with following(server) as follower:
            assert not follower.informer.synced.is_set()
            server.fail_next = 0
            await settle()
            assert follower.changes == ["added a"]
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.INFO]


async def test_an_expired_version_emits_what_vanished() -> None:
    server = ModelServer()
    for name in "ab":
        server.put(name)
    async with following(server) as follower:
        server.fail_next = 5
        server.disconnect()
        server.delete("a")
        server.put("c")
        server.compact()
        await settle()
        assert follower.changes == ["added a", "added b", "deleted a", "added c"]
        assert server.lists == 2


async def test_a_bookmark_moves_the_version_on() -> None:
    server = ModelServer()
    server.put("a")
    async with following(server) as follower:
        server.version += 10
        server.bookmark()
        await settle()
        server.compact()
        await settle()
        assert server.lists == 1
        assert follower.changes == ["added a"]


async def test_an_unusable_update_keeps_the_last_usable_object() -> None:
    server = ModelServer()
    server.put("a")
    async with following(server) as follower:
        before = dict(follower.informer.objects)
        server.put("a", usable=False)
        server.put("b", usable=False)
        await settle()
        assert dict(follower.informer.objects) == before
        server.delete("a")
        await settle()
        assert follower.changes == ["added a", "deleted a"]


async def test_a_late_subscriber_hears_of_what_is_there() -> None:
    server = ModelServer()
    server.put("a")
    async with following(server) as follower:
        heard: list[Key] = []
        follower.informer.subscribe(lambda change: heard.append(change.key))
        assert heard == [("ns", "a")]


async def test_an_error_in_a_callback_is_not_hidden() -> None:
    server = ModelServer()
    informer = Informer(server, PODS)
    informer.subscribe(lambda change: itertools.count("not a number"))  # type: ignore[arg-type]
    server.put("a")
    with pytest.raises(TypeError):
        await informer.run()
