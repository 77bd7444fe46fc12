"""How the way from the API's Services to the kernel's is measured (S-71, S-72)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from tulle.agent.health.checks import HealthChecks
from tulle.agent.health.freshness import Freshness
from tulle.agent.health.proxy_metrics import FAMILIES
from tulle.agent.health.statistics import Statistics
from tulle.kube.cache import Change
from tulle.kube.resources import Key
from tulle.model.address import from_bytes
from tulle.model.services import EndpointSlice
from tulle.model.times import parse_time
from tulle.pod_to_service.locality import lacks_local
from tulle.pod_to_service.tracker import Tracker, owner_of


class Progress:
    """Told by ``Services`` of each change that is queued, and of each round that writes them."""

    def __init__(self, node: str, statistics: Statistics, freshness: Freshness, checks: HealthChecks) -> None:
        self._node = node
        self._statistics = statistics
        self._proxy = statistics.proxy
        self._freshness = freshness
        self._checks = checks
        self._start = time.time()
        self._round = 0.0
        self._triggers: list[tuple[str, float]] = []
        self._under_way: list[tuple[str, float]] = []
        self._lacking: dict[Key, frozenset[tuple[int, str]]] = {}
        self._proxy.lacking = self._lacking

    def located(self, own: Mapping[bytes, bool]) -> None:
        """The addresses of this node, and whether node ports are reached there."""
        self._checks.locate(from_bytes(address) for address, reached in own.items() if reached)

    def service_queued(self) -> None:
        """A Service came, changed or went."""
        self._proxy.services.queued()
        self._queued()

    def slice_queued(self, change: Change[EndpointSlice]) -> None:
        """Of changes from before the start, nobody knows how long they waited for us."""
        self._proxy.endpoints.queued()
        self._queued()
        if change.new is None or owner_of(change.new) is None:
            return
        then = _trigger(change.new)
        if then and then > self._start and then != _trigger(change.old):
            self._triggers.append((change.new.address_type, then))

    def _queued(self) -> None:
        self._freshness.queued(time.monotonic())
        self._proxy.rounds.queued = time.time()

    def begun(self) -> None:
        """A round begins: it will write whatever was queued by now."""
        self._freshness.begun()
        self._proxy.services.begun()
        self._proxy.endpoints.begun()
        self._round = time.monotonic()
        self._under_way, self._triggers = self._triggers, []

    def synced(self, dirty: Iterable[Key], tracker: Tracker, failed: int) -> None:
        """The round is over: the kernel has these Services, but for ``failed`` of them."""
        now, seconds = time.time(), time.monotonic() - self._round
        for key in dirty:
            service, slices = tracker.objects(key)
            self._checks.follow(key, service, slices)
            lacking = lacks_local(service, slices, self._node) if service else None
            if lacking:
                self._lacking[key] = lacking
            else:
                self._lacking.pop(key, None)
        self._freshness.synced(now)
        self._proxy.services.synced()
        self._proxy.endpoints.synced()
        self._proxy.rounds.synced(now, seconds)
        self._statistics.failed.value = failed
        for family, then in self._under_way:
            if family in FAMILIES:
                self._proxy.programming.observe(max(now - then, 0.0), family)
        self._under_way = []

    def reconciled(self, begun: float, ended: Mapping[int, int]) -> None:
        """Since ``begun``, of a clock that never jumps, UDP sockets were looked at, and some ended: how many,
        by IP version.
        """
        self._proxy.reconciled(time.monotonic() - begun, ended)


def _trigger(each: EndpointSlice | None) -> float | None:
    annotations = each.metadata.annotations if each else None
    return parse_time(annotations.last_change_trigger_time) if annotations else None
