"""Answers load balancers that ask for a Service's endpoints on this node (S-62)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from tulle.agent.report import Reporter
from tulle.external_to_service.health import HealthCheck, answer, health_check, listeners
from tulle.kube.resources import Key
from tulle.model.address import Address
from tulle.model.services import EndpointSlice, Service
from tulle.telemetry.http import Handler, Reply, Server
from tulle.telemetry.listeners import Listeners, Place

log = logging.getLogger(__name__)

RETRY = 5.0  # seconds


class HealthChecks:
    """``healthy`` says whether the Service table keeps up with the API."""

    def __init__(self, node: str, server: Server, reporter: Reporter, healthy: Callable[[], bool]) -> None:
        self._node = node
        self._reporter = reporter
        self._healthy = healthy
        self._checks: dict[Key, HealthCheck] = {}
        self._addresses: frozenset[Address] = frozenset()
        self._owners: dict[Place, Key] = {}
        self._failures: dict[Key, str] = {}
        self._listeners = Listeners(server, self._handler)
        self._changed = asyncio.Event()
        self._done = asyncio.Event()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Adds the tasks that never return."""
        tasks.create_task(self._keep(), name="keep the health checks of Services")
        tasks.create_task(self._tell(), name="tell of health checks that cannot be answered")

    def locate(self, addresses: Iterable[Address]) -> None:
        """Those of this node at which node ports are reached."""
        found = frozenset(addresses)
        if found != self._addresses:
            self._addresses = found
            self._changed.set()

    def follow(self, key: Key, service: Service | None, slices: Iterable[EndpointSlice]) -> None:
        """A Service, None if it is gone, and its slices are so from now on, also in the kernel."""
        old = self._checks.pop(key, None)
        check = health_check(service, slices, self._node) if service else None
        if check:
            self._checks[key] = check
        if _shape(old) != _shape(check):
            self._changed.set()

    async def _keep(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RETRY if self._failures else None):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            self._owners, failures = listeners(self._checks, self._addresses)
            for place, reason in (await self._listeners.keep(self._owners)).items():
                if key := self._owners.get(place):
                    failures[key] = f"cannot listen at {place}: {reason}"
            self._failures = {
                key: f"spec.healthCheckNodePort: node {self._node}: {reason}; it is tried again"
                for key, reason in failures.items()
            }
            self._done.set()

    async def _tell(self) -> None:
        """By itself: no listener waits for an API that hangs."""
        while True:
            await self._done.wait()
            self._done.clear()
            await self._reporter.health_checks(self._failures)

    def _handler(self, place: Place) -> Handler:
        """For any method and path. A Service that went a moment ago has no endpoints."""

        async def handle(method: str, path: str) -> Reply:
            key = self._owners.get(place, ("", ""))
            check = self._checks.get(key)
            ready = check.ready.get(place.address.version, 0) if check else 0
            return answer(key, ready, self._healthy())

        return handle


def _shape(check: HealthCheck | None) -> object:
    """What decides about where to listen."""
    return check and (check.port, check.ready.keys())
