"""Follows Services and their endpoints, and keeps the kernel's Service table as they say."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from tulle.agent.health.progress import Progress
from tulle.agent.report import REST, Reporter
from tulle.agent.services.table import ServiceTable
from tulle.agent.settings import Settings
from tulle.errors import KernelError
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import ENDPOINT_SLICE, SERVICE, SERVICE_CIDR, Key
from tulle.model.address import Network
from tulle.model.services import EndpointSlice, Service, ServiceCIDR
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.own import own_addresses
from tulle.pod_to_service.plan import Frontend, PortPlan, Problem
from tulle.pod_to_service.table import PortName
from tulle.pod_to_service.tracker import Tracker

log = logging.getLogger(__name__)

_AT_ONCE = 250  # Services planned before other work of the agent has its turn
_RETRY = 5.0  # seconds


class Services:
    """The way from the API's Services to the kernel's ``table``."""

    def __init__(
        self, client: Client, settings: Settings, table: ServiceTable, reporter: Reporter, progress: Progress
    ) -> None:
        self._reporter = reporter
        self._progress = progress
        self._node = settings.node_name
        self._node_ports = settings.node_ports
        self._here: Location | None = None
        self._tracker = Tracker(Location(self._node))
        self._shared = table
        self._table = table.table
        self._own = table.own
        self._own_changed = asyncio.Event()
        self._services: Informer[Service] = Informer(client, SERVICE)
        self._slices: Informer[EndpointSlice] = Informer(client, ENDPOINT_SLICE)
        self._cidrs: Informer[ServiceCIDR] = Informer(client, SERVICE_CIDR)
        self._changed = asyncio.Event()
        self._done = asyncio.Event()
        self._cidrs_changed = True
        self._problems: dict[Key, tuple[Problem, ...]] = {}
        self._failed: set[Key] = set()
        self._complete = False
        self._services.subscribe(self._service_changed)
        self._slices.subscribe(self._slice_changed)
        self._cidrs.subscribe(self._cidr_changed)

    @property
    def informers(self) -> tuple[Informer[Service], Informer[EndpointSlice]]:
        """To subscribe to, for whoever else must follow them."""
        return self._services, self._slices

    def start(self, group: asyncio.TaskGroup) -> None:
        """Adds the tasks that never return."""
        group.create_task(self._services.run(), name="follow the Services")
        group.create_task(self._slices.run(), name="follow the EndpointSlices")
        group.create_task(self._cidrs.run(), name="follow the ServiceCIDRs")
        group.create_task(self._follow(), name="keep the Service table")
        group.create_task(self._tell(), name="tell of Services that cannot be right")

    def remove(self) -> None:
        """Takes out what an agent wrote that had Services to see to. Raises ``KernelError``."""
        self._table.forget_unclaimed()
        self._table.set_cidrs(())
        self._shared.settle(())

    def locate(self, zone: str, own: frozenset[bytes], primary: frozenset[bytes]) -> None:
        """The node's zone (S-15), the addresses that it has itself, and those by which it is known."""
        here = Location(self._node, zone, primary)
        if here != self._here or own != self._table.own:
            self._own_changed.set()
        if here != self._here:
            self._here = here
            self._tracker.move(here)
        if own != self._table.own:
            self._tracker.touch(own ^ self._table.own)
            self._table.own = own
        self._changed.set()

    def reserve(self, frontends: Mapping[Frontend, str]) -> None:
        """Host ports with an address of their own, and of which Pod each is: they go before Services."""
        if self._tracker.reserve(frontends):
            self._changed.set()

    def _service_changed(self, change: Change[Service]) -> None:
        self._tracker.service_changed(change)
        self._progress.service_queued()
        self._changed.set()

    def _slice_changed(self, change: Change[EndpointSlice]) -> None:
        self._tracker.slice_changed(change)
        self._progress.slice_queued(change)
        self._changed.set()

    def _cidr_changed(self, _: Change[ServiceCIDR]) -> None:
        self._cidrs_changed = True
        self._changed.set()
        self._own_changed.set()

    @property
    def _ready(self) -> bool:
        """Nothing is planned from half of what there is (S-14)."""
        synced = self._services.synced.is_set() and self._slices.synced.is_set()
        return synced and self._here is not None

    async def _follow(self) -> None:
        for informer in (self._services, self._slices):
            await informer.synced.wait()
        while True:
            await self._next_change()
            if self._ready:
                await self._bring_up_to_date()

    async def _next_change(self) -> None:
        try:
            async with asyncio.timeout(_RETRY if self._failed else None):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    async def _bring_up_to_date(self) -> None:
        """Everything that is dirty by now. What comes meanwhile is the next round's."""
        self._progress.begun()
        dirty = list(dict.fromkeys([*self._tracker.take_dirty(), *self._failed]))
        self._failed.clear()
        changed: list[PortName] = []
        for start in range(0, len(dirty), _AT_ONCE):
            changed += self._apply(dirty[start : start + _AT_ONCE])
            await asyncio.sleep(0)
        if not self._complete:
            self._table.forget_unclaimed()
            self._complete = True
            gc.collect()
            gc.freeze()  # what is long-lived is not looked through again: that would be a pause of 30 ms
            log.info("%d Services are in the kernel", len(self._services.objects))
        self._sync_cidrs()
        self._progress.synced(dirty, self._tracker, len(self._failed))
        self._shared.settle(changed)
        self._done.set()

    def _apply(self, keys: Iterable[Key]) -> list[PortName]:
        plans: dict[Key, tuple[PortPlan, ...]] = {}
        for key in keys:
            plan = self._tracker.plan(key)
            plans[key] = plan.ports
            self._problems.pop(key, None)
            if plan.problems:
                self._problems[key] = plan.problems
        try:
            return self._table.apply(plans)
        except KernelError as error:
            return self._apply_singly(plans, error)

    def _apply_singly(self, plans: Mapping[Key, tuple[PortPlan, ...]], reason: KernelError) -> list[PortName]:
        """One Service too large for the table must not keep the others out."""
        log.error("Services could not be written at once: %s", reason)
        changed: list[PortName] = []
        for key, ports in plans.items():
            try:
                changed += self._table.apply({key: ports})
            except KernelError as error:
                full = error.errno in (errno.E2BIG, errno.ENOSPC)
                advice = "the kernel's table is full; fewer endpoints fit" if full else str(error)
                self._problems[key] = (Problem("Service", key, "spec", advice),)
                self._failed.add(key)
        return changed

    def _sync_cidrs(self) -> None:
        """Without ServiceCIDR objects (Kubernetes before 1.33) no address counts as unallocated."""
        if self._cidrs_changed and self._cidrs.synced.is_set():
            self._cidrs_changed = False
            try:
                self._table.set_cidrs(set(networks(self._cidrs.objects.values())))
            except KernelError as error:
                log.error("not all ServiceCIDRs are known to the kernel: %s", error)

    async def keep_own(self) -> None:
        """Never returns. By itself: what the node has does not wait for an API that is silent."""
        while True:
            await self._own_changed.wait()
            self._own_changed.clear()
            if self._here is None:
                continue
            cidrs = set(networks(self._cidrs.objects.values()))
            own = own_addresses(self._table.own, self._here.addresses, self._node_ports, cidrs)
            self._progress.located(own)
            try:
                self._own.sync(own)
            except KernelError as error:
                log.error("node ports are not reached at all of this node's addresses: %s", error)

    async def _tell(self) -> None:
        """By itself: the table does not wait for an API that hangs."""
        while True:
            await self._done.wait()
            self._done.clear()
            if not await self._reporter.objects([p for each in self._problems.values() for p in each]):
                await asyncio.sleep(REST)
                self._done.set()


def networks(cidrs: Iterable[ServiceCIDR]) -> Iterable[Network]:
    """What they name; a text that is no CIDR is logged and left out."""
    for each in cidrs:
        for text in each.spec.cidrs or ():
            try:
                yield ip_network(text)
            except ValueError:
                log.warning("ServiceCIDR %s: spec.cidrs: %r is no CIDR", each.metadata.name, text)
