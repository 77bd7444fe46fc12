"""Which objects a controller should look at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from tulle.errors import ApiUnreachable, Conflict, NotFound

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

RETRY_SECONDS = (0.05, 30.0)
"""The first wait after a failure, which doubles with each further one, and the longest."""

REST_SECONDS = 0.02
"""How long a key rests after it was looked at, so that a burst of changes is looked at as one."""


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
