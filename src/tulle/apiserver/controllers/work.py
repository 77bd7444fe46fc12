"""What every controller is built on, beside ``kube.queue``: a view that includes its own writes."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any, Literal

from tulle.errors import Conflict, NotFound
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import Key, Resource

log = logging.getLogger(__name__)

Object = dict[str, Any]
Propagation = Literal["Orphan", "Background", "Foreground"]

PARALLEL_WRITES = 16


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
