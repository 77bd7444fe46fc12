"""A local copy of a collection that follows the API server through restarts, gaps and lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Generic, Protocol

from tulle.errors import ApiError, ApiUnreachable, Gone, NotFound
from tulle.kube.backoff import Backoff
from tulle.kube.cache import Change, WatchCache
from tulle.kube.resources import Item, Key, Resource, T
from tulle.kube.wire import ListResult, WatchEvent

log = logging.getLogger(__name__)

WATCH_SECONDS = (300.0, 600.0)
"""Each watch asks the server to end it after a time in this range, so that clients do not move in step."""


class Source(Protocol):
    """What an informer needs of :class:`~tulle.kube.client.Client`."""

    async def list(
        self,
        resource: Resource[T],
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> ListResult[T]: ...

    def watch(
        self,
        resource: Resource[T],
        resource_version: str,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_seconds: float,
    ) -> AsyncGenerator[WatchEvent[T], None]: ...


class Informer(Generic[T]):
    """``objects`` is the copy; it survives any outage, and ``synced`` is set once it was complete.

    Callbacks run in the informer's task, after the change is in ``objects``; they must not block.
    """

    def __init__(
        self,
        client: Source,
        resource: Resource[T],
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._backoff = backoff or Backoff()
        self._cache: WatchCache[T] = WatchCache()
        self._callbacks: list[Callable[[Change[T]], None]] = []
        self._version: str | None = None
        self._failing = False
        self.synced = asyncio.Event()

    @property
    def objects(self) -> Mapping[Key, T]:
        """The copy, live and read-only."""
        return self._cache.objects

    def subscribe(self, callback: Callable[[Change[T]], None]) -> None:
        """``callback`` hears of every change from now on, and first of all objects here, as added."""
        for key, value in self._cache.objects.items():
            callback(Change("added", key, None, value))
        self._callbacks.append(callback)

    def preload(self, objects: Mapping[Key, T]) -> None:
        """Before ``run``: objects as last seen. They count until the first list says what became of them."""
        self._emit(self._cache.replace(Item(key, "", value) for key, value in objects.items()))

    async def run(self) -> None:
        """Follows the collection for ever; only an error in a callback or in the configuration ends it."""
        while True:
            try:
                if self._version is None:
                    await self._list()
                await self._watch(self._version)
            except Gone as error:
                log.info("%s: listing again: %s", self._resource.plural, error)
                self._version = None
            except (ApiError, ApiUnreachable) as error:
                self._log_failure(error)
            await asyncio.sleep(self._backoff.next())

    async def _list(self) -> None:
        """A list without a resourceVersion is the only one that can never be older than what we know."""
        result = await self._client.list(
            self._resource, self._namespace, self._label_selector, self._field_selector
        )
        self._version = result.resource_version
        self._answered()
        self._emit(self._cache.replace(result.entries))
        self.synced.set()

    async def _watch(self, version: str | None) -> None:
        """Until the server ends the watch; ``_version`` then says where to resume."""
        events = self._client.watch(
            self._resource,
            version or "",
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout_seconds=random.uniform(*WATCH_SECONDS),
        )
        async with contextlib.aclosing(events):
            async for event in events:
                self._answered()
                self._emit(self._apply(event))
                self._version = event.item.version or self._version

    def _apply(self, event: WatchEvent[T]) -> list[Change[T]]:
        if event.type == "BOOKMARK":
            return []
        removed = event.type == "DELETED"
        change = self._cache.remove(event.item.key) if removed else self._cache.put(event.item)
        return [change] if change else []

    def _emit(self, changes: Iterable[Change[T]]) -> None:
        for change in changes:
            for callback in self._callbacks:
                callback(change)

    def _log_failure(self, error: Exception) -> None:
        """An outage is one warning when it begins and one line when it ends, however long it lasts.

        That an API lacks a resource, such as one that an operator has no use for, is none.
        """
        begins = logging.INFO if isinstance(error, NotFound) else logging.WARNING
        level = logging.DEBUG if self._failing else begins
        log.log(level, "%s: going on with %d known: %s", self._resource.plural, len(self.objects), error)
        self._failing = True

    def _answered(self) -> None:
        if self._failing:
            log.info("%s: the API answers again", self._resource.plural)
        self._failing = False
