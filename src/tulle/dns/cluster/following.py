"""Keeps the catalog in step with the API, and its snapshot on disk in step with the catalog."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from tulle.dns.cluster.catalog import Catalog
from tulle.dns.cluster.objects import SERVICES, Service
from tulle.dns.cluster.snapshot import Snapshot
from tulle.kube.cache import Change
from tulle.kube.informer import Informer, Source
from tulle.kube.resources import ENDPOINT_SLICE, NAMESPACE, Key, Resource
from tulle.model.objects import Namespace
from tulle.model.services import EndpointSlice
from tulle.model.times import parse_time
from tulle.telemetry.metrics import Histogram

log = logging.getLogger(__name__)

SNAPSHOT_SECONDS = 10.0
"""At most this much of the cluster's history is missing in a snapshot."""

HEADLESS = "service.kubernetes.io/headless"
OTHERS = f"!{HEADLESS},endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io"
"""Slices of Services with a ClusterIP are the most, and none of DNS's business: they are not asked for. Those
made by hand or mirrored may be of a headless Service without saying so."""

_T = TypeVar("_T", Service, EndpointSlice, Namespace)


class Follower:
    """``ready`` is set when there is something to answer from: a snapshot, or the API's first lists;
    ``synced`` when it is the lists.
    """

    def __init__(
        self, client: Source, catalog: Catalog, snapshot: Snapshot | None, programming: Histogram
    ) -> None:
        self._catalog = catalog
        self._snapshot = snapshot
        self._programming = programming
        self._changed = asyncio.Event()
        self.ready, self.synced = asyncio.Event(), asyncio.Event()
        self._services = self._informer(client, SERVICES, catalog.set_service)
        self._namespaces = self._informer(client, NAMESPACE, catalog.set_namespace)
        self._slices = {
            True: self._informer(client, ENDPOINT_SLICE, partial(self._set_slice, True), HEADLESS),
            False: self._informer(client, ENDPOINT_SLICE, partial(self._set_slice, False), OTHERS),
        }

    def _informer(
        self,
        client: Source,
        resource: Resource[_T],
        put: Callable[[Key, _T | None], None],
        selector: str | None = None,
    ) -> Informer[_T]:
        informer: Informer[_T] = Informer(client, resource, label_selector=selector)

        def handle(change: Change[_T]) -> None:
            put(change.key, change.new)
            self._changed.set()

        informer.subscribe(handle)
        return informer

    def _set_slice(self, headless: bool, key: Key, new: EndpointSlice | None) -> None:
        self._catalog.set_slice((headless, *key), new)
        if new is not None and self._slices[headless].synced.is_set():
            self._measure(new)

    def load(self) -> None:
        """What was known when the last process wrote it down; slices first, so no name is made twice."""
        known = self._snapshot.read() if self._snapshot else []
        slices: dict[bool, dict[Key, EndpointSlice]] = {True: {}, False: {}}
        services: dict[Key, Service] = {}
        namespaces: dict[Key, Namespace] = {}
        for each in known:
            key = (each.metadata.namespace, each.metadata.name)
            if isinstance(each, EndpointSlice):
                labels = each.metadata.labels
                slices[labels is not None and labels.headless is not None][key] = each
            elif isinstance(each, Service):
                services[key] = each
            else:
                namespaces[key] = each
        for headless, informer in self._slices.items():
            informer.preload(slices[headless])
        self._namespaces.preload(namespaces)
        self._services.preload(services)
        if known:
            log.info("answering from %d objects as last seen", len(known))
            self.ready.set()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """All tasks go on for ever."""
        tasks.create_task(self._services.run(), name="follow Services")
        tasks.create_task(self._slices[True].run(), name="follow headless Services' EndpointSlices")
        tasks.create_task(self._slices[False].run(), name="follow other EndpointSlices")
        tasks.create_task(self._namespaces.run(), name="follow Namespaces")
        tasks.create_task(self._keep(), name="keep the snapshot")

    async def _keep(self) -> None:
        """From the first lists on. They are long-lived, so the garbage collector need not look at them."""
        for slices in self._slices.values():
            await slices.synced.wait()
        await self._namespaces.synced.wait()
        await self._services.synced.wait()
        self.ready.set()
        self.synced.set()
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

    def _measure(self, part: EndpointSlice) -> None:
        """How long ago a headless Service's endpoints changed (D-29); not for the first list."""
        told = part.metadata.annotations
        seconds = seconds_since(told.last_change_trigger_time or "") if told else None
        if seconds is not None and self._catalog.is_headless(part):
            self._programming.observe(max(seconds, 0.0), "headless_with_selector")


def seconds_since(text: str) -> float | None:
    """Of an RFC 3339 time; None if it is none."""
    then = parse_time(text)
    return None if then is None else time.time() - then
