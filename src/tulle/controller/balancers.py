"""Keeps the API's Services and LoadBalancerPools as the pure half (``external_to_service.pools``) says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from tulle.controller.surroundings import Around
from tulle.controller.writer import Writer
from tulle.external_to_service.pools import conditions
from tulle.external_to_service.pools.allocator import Allocator
from tulle.external_to_service.pools.claim import claim_of, is_ours
from tulle.external_to_service.pools.external import external_ips
from tulle.external_to_service.pools.judge import Pool, judge
from tulle.external_to_service.pools.offer import offer
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.leader import Leader
from tulle.kube.queue import Queue
from tulle.kube.resources import BALANCED_SERVICE, LOAD_BALANCER_POOL, NAMESPACE, Key
from tulle.model.address import Address
from tulle.model.balancing import BalancedService, LoadBalancerPool
from tulle.model.objects import Namespace

log = logging.getLogger(__name__)

_QUIET_SECONDS = 0.1
"""Counts in a pool's status are written when there was no change for so long."""


class Balancers:
    """For one term of a leader: what it knows is made anew for the next one."""

    def __init__(self, client: Client, leader: Leader, require_class: bool) -> None:
        self._require_class = require_class
        self._writer = Writer(client, leader)
        self._allocator = Allocator()
        self._around = Around(client, self._judge)
        self._services: Informer[BalancedService] = Informer(client, BALANCED_SERVICE)
        self._namespaces: Informer[Namespace] = Informer(client, NAMESPACE)
        self._pools: Informer[LoadBalancerPool] = Informer(client, LOAD_BALANCER_POOL)
        self._judged: tuple[Pool, ...] = ()
        self._waiting: set[Key] = set()
        self._disputed: dict[Key, list[tuple[Address, Key]]] = {}
        self._of_services: Queue[Key] = Queue("Service")
        self._of_pools: Queue[str] = Queue("LoadBalancerPool")

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as group:
            for informer, name in (
                (self._services, "Services"),
                (self._namespaces, "Namespaces"),
                (self._pools, "LoadBalancerPools"),
            ):
                group.create_task(informer.run(), name=f"follow the {name}")
            self._around.start(group)
            await self._writer.explain_missing_pools()
            for synced in (self._services.synced, self._namespaces.synced, self._pools.synced):
                await synced.wait()
            await self._around.synced()
            self._begin()
            group.create_task(self._of_services.run(self._see_to_service), name="give addresses")
            group.create_task(self._of_pools.run(self._see_to_pool), name="tell of pools")

    def _begin(self) -> None:
        """What Services have is known before the first address is given, to anybody.

        One that was ours and is another's now is cleared first: what its status says is not ours to clear.
        """
        for service in self._by_age(self._services.objects.values()):
            self._allocator.name_external(service.metadata.key, external_ips(service))
            ours = is_ours(service, self._require_class)
            if service.spec.type == "LoadBalancer" and (ours or not conditions.touched(service)):
                self._allocator.remember(claim_of(service))
        self._judged = self._judge_pools()
        self._services.subscribe(self._service_changed)
        self._namespaces.subscribe(self._namespace_changed)
        self._pools.subscribe(lambda change: self._judge())
        self._add_services(self._services.objects)
        self._add_pools()
        log.info("%d LoadBalancerPools, %d Services", len(self._judged), len(self._services.objects))

    def _by_age(self, services: Iterable[BalancedService]) -> list[BalancedService]:
        return sorted(services, key=lambda service: service.metadata.age)

    def _service_changed(self, change: Change[BalancedService]) -> None:
        self._allocator.name_external(change.key, external_ips(change.new))
        self._of_services.add(change.key)

    def _namespace_changed(self, change: Change[Namespace]) -> None:
        labels = [each.metadata.labels if each else None for each in (change.old, change.new)]
        if labels[0] != labels[1]:
            self._add_services(key for key in self._services.objects if key[0] == change.key[1])

    def _judge_pools(self) -> tuple[Pool, ...]:
        return judge(self._pools.objects.values(), self._around.found())

    def _judge(self) -> None:
        """A pool, or what pools must not touch, has changed; most often it is a status that we wrote."""
        judged = self._judge_pools()
        self._add_pools()
        if judged != self._judged:
            self._judged = judged
            self._add_services(self._services.objects)

    def _add_services(self, keys: Iterable[Key]) -> None:
        """The oldest first: who has waited longest is served first."""
        found = [service for key in keys if (service := self._services.objects.get(key))]
        for service in self._by_age(found):
            self._of_services.add(service.metadata.key)

    def _add_pools(self) -> None:
        for _, name in self._pools.objects:
            self._of_pools.add_after(name, _QUIET_SECONDS)

    async def _see_to_service(self, key: Key) -> None:
        service = self._writer.latest(key, self._services.objects.get(key))
        await self._settle(key, service)
        self._look_around()
        await self._tell_disputes(key, service)

    async def _settle(self, key: Key, service: BalancedService | None) -> None:
        if service is None:
            self._release(key)
        elif is_ours(service, self._require_class) and not service.metadata.deletion_timestamp:
            await self._give(service)
        elif conditions.touched(service):
            await self._writer.clear(service, frozenset(map(str, self._allocator.occupied(key))))
            self._release(key)
        elif service.spec.type == "LoadBalancer":
            self._allocator.remember(claim_of(service))
        else:
            self._release(key)

    async def _tell_disputes(self, key: Key, service: BalancedService | None) -> None:
        """External addresses are whoever's who writes them down; that they are another's is told once."""
        before = self._disputed.pop(key, [])
        found = self._allocator.disputed(key)
        if service is None or not found:
            return
        self._disputed[key] = [(address, other.key) for address, other in found]
        for address, other in found:
            if (address, other.key) not in before:
                await self._writer.tell_dispute(service, address, other)

    async def _give(self, service: BalancedService) -> None:
        """The address is ours from the moment of the decision, whatever becomes of the writes after it."""
        key = service.metadata.key
        namespace = self._namespaces.objects.get(("", service.metadata.namespace))
        if namespace is None:
            return  # which is soon heard of: without its labels it is not known which pools are right
        before = self._allocator.held(key)
        there = offer(self._judged, service.metadata.labels or {}, namespace.metadata.labels)
        outcome = self._allocator.settle(claim_of(service), there)
        self._waiting.discard(key)
        if not outcome.complete:
            self._waiting.add(key)
        if self._allocator.held(key) != before:
            self._add_pools()
        self._look_around()
        await self._writer.publish(service, outcome)
        self._allocator.confirm(key)

    def _release(self, key: Key) -> None:
        self._waiting.discard(key)
        if self._allocator.held(key):
            self._add_pools()
        self._allocator.release(key)

    def _look_around(self) -> None:
        """Whoever may now get an address, or must give one up."""
        displaced = self._allocator.take_displaced()
        self._add_services(displaced | self._waiting if self._allocator.take_freed() else displaced)

    async def _see_to_pool(self, name: str) -> None:
        obj = self._pools.objects.get(("", name))
        pool = next((each for each in self._judged if each.name == name), None)
        if obj is not None and pool is not None:
            assigned = {version: self._allocator.count(pool, version) for version in (4, 6)}
            await self._writer.tell_pool(obj, pool, assigned)
