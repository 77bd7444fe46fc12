"""What every controller is built on: a queue of keys to look at, and a view that includes its own writes."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, Literal, TypeVar

from tulle.errors import ApiUnreachable, Conflict, NotFound
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import Key, Resource

log = logging.getLogger(__name__)

Object = dict[str, Any]
Propagation = Literal["Orphan", "Background", "Foreground"]
K = TypeVar("K", bound=Hashable)

RETRY_SECONDS = (0.05, 30.0)
"""The first wait after a failure, which doubles with each further one, and the longest."""

REST_SECONDS = 0.02
"""How long a key rests after it was looked at, so that a burst of changes is looked at as one."""

PARALLEL_WRITES = 16


class Queue(Generic[K]):
    """Keys that somebody should look at. A key that waits is there once, however often it was added;
    one that is being worked on is looked at again after a short rest, never twice at the same time.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._busy: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def add(self, key: K) -> None:
        """Soon."""
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: K, seconds: float) -> None:
        """In ``seconds``; takes the place of an earlier time for the same key."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._due, key)

    async def run(self, work: Callable[[K], Awaitable[None]], workers: int = 4) -> None:
        """Calls ``work`` with each key, again after growing pauses while it raises. Never returns."""
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._worker(work), name=f"{self._name}-{number}")

    def _rested(self, key: K) -> None:
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    async def _worker(self, work: Callable[[K], Awaitable[None]]) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._busy.add(key)
            try:
                await work(key)
                self._failures.pop(key, None)
            except Exception as error:
                self._retry(key, error)
            asyncio.get_running_loop().call_later(REST_SECONDS, self._rested, key)

    def _retry(self, key: K, error: Exception) -> None:
        """One object that cannot be handled must not keep the others from being handled."""
        ordinary = isinstance(error, Conflict | NotFound | ApiUnreachable)
        log.log(
            logging.DEBUG if ordinary else logging.WARNING,
            "%s %s: %s: will be tried again",
            self._name,
            key,
            error,
            exc_info=not ordinary,
        )
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        first, longest = RETRY_SECONDS
        self.add_after(key, min(longest, first * 2 ** min(failures, 16)))


class Mirror:
    """A collection as the watch shows it, and as our own writes left it where the watch lags behind.

    A controller that decides on this view never makes a second object because it has not heard of its
    first. Resource versions are compared as numbers, which Kubernetes allows since 1.35.
    """

    def __init__(self, informer: Informer[Object]) -> None:
        self.informer = informer
        self._spaces: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        self._ahead: dict[Key, Object] = {}
        self._deleted: set[str] = set()
        self._seen = 0
        informer.subscribe(self._follow)

    def get(self, key: Key) -> Object | None:
        return self._ahead.get(key) or self.informer.objects.get(key)

    def in_namespace(self, namespace: str) -> list[Object]:
        """All but those that we have deleted."""
        ahead = {name: obj for (space, name), obj in self._ahead.items() if space == namespace}
        found = {**self._spaces.get(namespace, {}), **ahead}.values()
        return [obj for obj in found if obj["metadata"]["uid"] not in self._deleted]

    def find(self, keys: Iterable[Key]) -> list[Object]:
        """Those of ``keys`` that are there, all but those that we have deleted."""
        found = filter(None, map(self.get, keys))
        return [obj for obj in found if obj["metadata"]["uid"] not in self._deleted]

    def __iter__(self) -> Iterator[Object]:
        for space in self._spaces | {space: {} for space, _ in self._ahead}:
            yield from self.in_namespace(space)

    def wrote(self, obj: Object) -> None:
        """``obj`` is what the API answered to our write."""
        if _version(obj) > self._seen:
            self._ahead[_key(obj)] = obj

    def deleted(self, obj: Object) -> None:
        """We have asked for the deletion of ``obj``."""
        self._deleted.add(obj["metadata"]["uid"])
        if self._ahead.get(_key(obj)) is obj:
            del self._ahead[_key(obj)]

    def _follow(self, change: Change[Object]) -> None:
        namespace, name = change.key
        if change.new is None:
            self._spaces[namespace].pop(name, None)
        else:
            self._spaces[namespace][name] = change.new
            self._seen = max(self._seen, _version(change.new))
        for key in [key for key, obj in self._ahead.items() if _version(obj) <= self._seen]:
            del self._ahead[key]
        if change.old is not None and (change.new is None or "deletionTimestamp" in change.new["metadata"]):
            self._deleted.discard(change.old["metadata"]["uid"])


async def synced(*mirrors: Mirror) -> None:
    """Until each is complete: before that, what seems to be missing may only not have been read."""
    for mirror in mirrors:
        await mirror.informer.synced.wait()


async def delete(
    client: Client,
    resource: Resource[Any],
    key: Key,
    uid: str,
    propagation: Propagation = "Background",
) -> None:
    """Deletes this very object; it is no error that it is gone, or that another has its name."""
    namespace, name = key
    with suppress(NotFound, Conflict):
        await client.delete(resource, name, namespace or None, propagation=propagation, uid=uid)


async def in_parallel(writes: Iterable[Coroutine[Any, Any, None]], limit: int = PARALLEL_WRITES) -> None:
    """Runs all, at most ``limit`` at a time; raises the first failure once all have ended."""
    places = asyncio.Semaphore(limit)

    async def placed(write: Coroutine[Any, Any, None]) -> None:
        async with places:
            await write

    results = await asyncio.gather(*map(placed, writes), return_exceptions=True)
    for failure in (result for result in results if isinstance(result, BaseException)):
        raise failure


def _key(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])
