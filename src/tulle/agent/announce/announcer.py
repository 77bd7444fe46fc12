"""Announces LoadBalancer IPs on the local network: brings together the API, the election, and the kernel."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Iterable

from tulle.agent.announce.announced import Announced, boot_time
from tulle.agent.announce.leases import Leases, Refused
from tulle.errors import ApiError, ApiUnreachable, KernelError
from tulle.external_to_service.announce.actions import Action, Give, Renew
from tulle.external_to_service.announce.election import RETRY, Election
from tulle.external_to_service.announce.leases import LABEL, NAMESPACE, SECONDS, read
from tulle.external_to_service.announce.vips import Link, Vip, addresses_of, find_vips
from tulle.kube.backoff import Backoff
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import ANNOUNCED_POOL, LEASE, Key
from tulle.model.address import Address
from tulle.model.announcing import AnnouncedPool, Lease
from tulle.model.objects import Node
from tulle.model.services import EndpointSlice, Service
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.topology import Uplink
from tulle.pod_to_service.tracker import owner_of

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 1.0
"""Seconds between two tries to follow the Leases: who is late there is late to take over."""
_TOLD_AGAIN = (0.2, 0.3, 0.5, 1.0)
"""Seconds between the announcements of an address that is new here: one frame may be lost."""


class Announcer:
    """``run`` is its task. Before it has heard of an address to announce, it asks the API for pools only."""

    def __init__(
        self,
        client: Client,
        node: str,
        datapath: Datapath,
        services: Informer[Service],
        slices: Informer[EndpointSlice],
        nodes: Informer[Node],
    ) -> None:
        self._node = node
        self._services, self._slices, self._nodes = services, slices, nodes
        self._pools: Informer[AnnouncedPool] = Informer(client, ANNOUNCED_POOL)
        self._leases: Informer[Lease] = Informer(
            client, LEASE, namespace=NAMESPACE, label_selector=LABEL, backoff=Backoff(cap=_LONGEST_PAUSE)
        )
        self._api = Leases(client)
        self._announced = Announced(datapath.maps["announcements"], datapath.contract)
        self._election = Election(node, lambda: f"{node}_{secrets.token_hex(8)}")
        self._balanced: dict[Key, Service] = {}
        self._slices_of: dict[Key, dict[str, EndpointSlice]] = {}
        self._uplinks: tuple[Uplink, ...] = ()
        self._links: list[Link] = []
        self._vips: dict[Address, Vip] = {}
        self._news = asyncio.Event()
        self._dirty = True
        self._failing = False
        self._listing = False
        self._group = asyncio.TaskGroup()
        services.subscribe(self._service_changed)
        slices.subscribe(self._slice_changed)
        nodes.subscribe(self._node_changed)
        self._pools.subscribe(lambda _: self._touch())
        self._leases.subscribe(self._lease_changed)

    def place(self, uplinks: Iterable[Uplink]) -> None:
        """The uplinks as they are now."""
        self._uplinks = tuple(uplinks)
        links = self._announced.use(self._uplinks)
        if links != self._links:
            self._links = links
            self._touch()

    def remove(self) -> None:
        """Takes out what an agent wrote that announced. Raises ``KernelError``."""
        self._announced.clear()

    async def run(self) -> None:
        """Never returns. When it is cancelled, the others hear that they can take over."""
        try:
            async with self._group as group:
                group.create_task(self._pools.run(), name="follow the LoadBalancerPools")
                group.create_task(self._sweep(), name="forget what an earlier agent announced")
                for informer in (self._pools, self._services, self._slices, self._nodes):
                    await informer.synced.wait()
                while not self._find():
                    await self._next_news(math.inf)
                group.create_task(self._leases.run(), name="follow the Leases of announcements")
                await self._leases.synced.wait()
                await self._go_on()
        finally:
            await self._stop()

    async def _go_on(self) -> None:
        while True:
            self._find()
            actions, later = self._election.due(boot_time())
            self._apply()
            for action in actions:
                self._group.create_task(self._do(action), name=f"{type(action).__name__} {action.name}")
            if self._election.stale and not self._listing:
                self._listing = True
                self._group.create_task(self._list(), name="list the Leases of announcements")
            await self._next_news(later)

    async def _next_news(self, later: float) -> None:
        try:
            async with asyncio.timeout(None if later == math.inf else max(0.0, later - boot_time())):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    async def _sweep(self) -> None:
        """What an earlier agent wrote is right until it has run out, and no use after."""
        await asyncio.sleep(SECONDS)
        self._announced.forget_expired()

    async def _stop(self) -> None:
        self._election.stop()
        try:
            self._announced.clear()
        except KernelError as error:
            log.error("LoadBalancer IPs are answered for until their time is over: %s", error)
        self._announced.close()
        for action in self._election.due(boot_time())[0]:
            await self._do(action)

    # What there is

    def _find(self) -> bool:
        """Whether there is anything to announce."""
        if self._dirty:
            self._dirty = False
            self._vips = find_vips(
                self._balanced.values(),
                {key: slices.values() for key, slices in self._slices_of.items() if key in self._balanced},
                self._pools.objects.values(),
                self._nodes.objects.values(),
                self._links,
            )
            own = self._nodes.objects.get(("", self._node))
            self._api.node_uid = own.metadata.uid if own else ""
            self._election.want(self._vips, boot_time())
        return bool(self._vips)

    def _touch(self) -> None:
        self._dirty = True
        self._news.set()

    def _service_changed(self, change: Change[Service]) -> None:
        if change.new and addresses_of(change.new):
            self._balanced[change.key] = change.new
            self._touch()
        elif self._balanced.pop(change.key, None):
            self._touch()

    def _slice_changed(self, change: Change[EndpointSlice]) -> None:
        before, after = change.old and owner_of(change.old), change.new and owner_of(change.new)
        if before and before in self._slices_of:
            self._slices_of[before].pop(change.key[1], None)
            if not self._slices_of[before]:
                del self._slices_of[before]
        if after and change.new:
            self._slices_of.setdefault(after, {})[change.key[1]] = change.new
        if before in self._balanced or after in self._balanced:
            self._touch()

    def _node_changed(self, change: Change[Node]) -> None:
        if _relevant(change.old) != _relevant(change.new):
            self._touch()

    # Leases

    def _lease_changed(self, change: Change[Lease]) -> None:
        now, news = boot_time(), False
        if change.new:
            record = read(change.new)
            news = record is not None and self._election.see(record, now)
        elif change.old and (last := read(change.old)):
            news = self._election.miss(last.name, last.version, now)
        if news:
            self._news.set()

    async def _list(self) -> None:
        try:
            self._election.listed(*await self._api.list(), boot_time())
        except (ApiError, ApiUnreachable) as error:
            self._log_failure(error)
            await asyncio.sleep(RETRY)
        self._listing = False
        self._news.set()

    async def _do(self, action: Action) -> None:
        try:
            if isinstance(action, Give):
                self._announced.withdraw(action.address)
            record = await self._api.do(action)
        except Refused as refusal:
            log.debug("%s: %s", action, refusal)
            self._election.refused(action, boot_time())
        except (ApiError, ApiUnreachable, KernelError) as error:
            self._log_failure(error)
            self._election.failed(action, boot_time())
        else:
            self._failing = False
            self._election.succeeded(action, record, boot_time())
            self._apply()
            if isinstance(action, Renew):
                return  # it changes nothing but how long the kernel answers
        self._news.set()

    def _log_failure(self, error: Exception) -> None:
        level = logging.DEBUG if self._failing else logging.WARNING
        log.log(level, "the Leases of LoadBalancer IPs cannot be kept, tried again: %s", error)
        self._failing = True

    # The kernel

    def _apply(self) -> None:
        new = self._announced.apply(self._election.held(), self._vips)
        if new:
            log.info("answering for %s", ", ".join(map(str, new)))
            self._announced.tell(new)
            self._group.create_task(self._tell_again(new), name="tell where addresses are")

    async def _tell_again(self, addresses: list[Address]) -> None:
        for pause in _TOLD_AGAIN:
            await asyncio.sleep(pause)
            self._announced.tell(addresses)


def _relevant(node: Node | None) -> object:
    if node is None:
        return None
    ready = [c.status for c in node.status.conditions if c.type == "Ready"]
    return node.metadata.labels, node.metadata.deletion_timestamp, node.status.addresses, ready
