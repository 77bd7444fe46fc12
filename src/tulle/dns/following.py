"""Keeps the catalog in step with the API, and its snapshot on disk in step with the catalog."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from tulle.dns.catalog import Catalog, Objects
from tulle.dns.metrics import Histogram
from tulle.dns.snapshot import Snapshot
from tulle.kube.cache import Change
from tulle.kube.informer import Informer, Source
from tulle.kube.resources import ENDPOINT_SLICE, NAMESPACE, SERVICE, Key, Resource
from tulle.model.objects import Namespace
from tulle.model.services import EndpointSlice, Service

log = logging.getLogger(__name__)

SNAPSHOT_SECONDS = 10.0
"""At most this much of the cluster's history is missing in a snapshot."""

_Any = Informer[Service] | Informer[EndpointSlice] | Informer[Namespace]
_T = TypeVar("_T", Service, EndpointSlice, Namespace)


class Follower:
    """``ready`` is set when there is something to answer from: a snapshot, or the API's first lists."""

    def __init__(
        self, client: Source, catalog: Catalog, snapshot: Snapshot | None, programming: Histogram
    ) -> None:
        self._catalog = catalog
        self._snapshot = snapshot
        self._programming = programming
        self._changed = asyncio.Event()
        self.ready = asyncio.Event()
        self._services = self._informer(client, SERVICE, catalog.set_service)
        self._slices = self._informer(client, ENDPOINT_SLICE, catalog.set_slice)
        self._namespaces = self._informer(client, NAMESPACE, catalog.set_namespace)
        self._slices.subscribe(self._measure)

    def _informer(
        self, client: Source, resource: Resource[_T], put: Callable[[Key, _T | None], None]
    ) -> Informer[_T]:
        informer: Informer[_T] = Informer(client, resource)

        def handle(change: Change[_T]) -> None:
            put(change.key, change.new)
            self._changed.set()

        informer.subscribe(handle)
        return informer

    def load(self) -> None:
        """What was known when the last process wrote it down."""
        known = self._snapshot.read() if self._snapshot else []
        if known:
            self._catalog.load(known)
            log.info("answering from %d objects as last seen", len(known))
            self.ready.set()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """All tasks go on for ever."""
        tasks.create_task(self._services.run(), name="follow Services")
        tasks.create_task(self._slices.run(), name="follow EndpointSlices")
        tasks.create_task(self._namespaces.run(), name="follow Namespaces")
        tasks.create_task(self._settle(), name="settle after the first lists")

    async def _settle(self) -> None:
        """Then keeps the snapshot. The first lists are long-lived, so the collector need not look at them."""
        followed: tuple[tuple[type[Objects], _Any], ...] = (
            (Namespace, self._namespaces),
            (EndpointSlice, self._slices),
            (Service, self._services),
        )
        for kind, informer in followed:
            await informer.synced.wait()
            self._catalog.settle(kind, informer.objects)
        self.ready.set()
        gc.collect()
        gc.freeze()
        log.info("in step with the API: %d Services, %d EndpointSlices, %d Namespaces", *self._catalog.size)
        while self._snapshot:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._snapshot.write(self._catalog)
            except OSError as error:
                log.warning("the snapshot cannot be written: %s", error)
            await asyncio.sleep(SNAPSHOT_SECONDS)

    def _measure(self, change: Change[EndpointSlice]) -> None:
        """How long ago a headless Service's endpoints changed (D-29); not for the first list."""
        part = change.new
        if part is None or not self._slices.synced.is_set() or not self._catalog.is_headless(part):
            return
        told = part.metadata.annotations
        seconds = seconds_since(told.last_change_trigger_time or "") if told else None
        if seconds is not None:
            self._programming.observe(max(seconds, 0.0), "headless_with_selector")


def seconds_since(text: str) -> float | None:
    """Of an RFC 3339 time; None if it is none."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    except (ValueError, TypeError):
        return None
