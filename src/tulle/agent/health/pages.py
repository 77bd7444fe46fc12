"""The agent's own pages, where kube-proxy has its: health at 10256, metrics and more at 10249."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from tulle import __version__
from tulle.agent.health.freshness import Freshness, reply
from tulle.agent.health.statistics import Statistics
from tulle.agent.settings import Settings
from tulle.pod_to_pod.topology import Problem
from tulle.telemetry.http import JSON, Handler, Page, Reply, Server, pages
from tulle.telemetry.listeners import Listeners, Place

log = logging.getLogger(__name__)

RETRY = 5.0  # seconds


class Pages:
    """S-63 and S-64. ``is_eligible`` says whether the Node is there to stay; ``on_problem`` is called when
    ``problems`` change.
    """

    def __init__(
        self,
        settings: Settings,
        server: Server,
        statistics: Statistics,
        freshness: Freshness,
        is_eligible: Callable[[], bool],
        on_problem: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._statistics = statistics
        self._freshness = freshness
        self._is_eligible = is_eligible
        self._on_problem = on_problem
        self._started = datetime.now(UTC)
        self._shown: dict[Place, dict[str, Page]] = {}
        self._fields: dict[Place, str] = {}
        self._add("healthzBindAddress", settings.healthz, self._health())
        self._add("metricsBindAddress", settings.metrics, self._metrics())
        self._listeners = Listeners(server, self._handler)
        self.problems: list[Problem] = []

    def _add(self, field: str, place: Place | None, shown: dict[str, Page]) -> None:
        """Both may be in one place; /healthz is that of the node's health then."""
        if place:
            self._shown[place] = shown | self._shown.get(place, {})
            self._fields.setdefault(place, field)

    def _handler(self, place: Place) -> Handler:
        return pages(self._shown[place])

    async def run(self) -> None:
        """Never returns. A port that is taken, as by a kube-proxy, is tried again."""
        while True:
            failures = await self._listeners.keep(self._shown)
            problems = [self._problem(place, reason) for place, reason in failures.items()]
            if problems != self.problems:
                self._tell(problems)
            await asyncio.sleep(RETRY)

    def _problem(self, place: Place, reason: str) -> Problem:
        message = f"{self._fields[place]}: cannot listen at {place}: {reason}; it is tried again"
        return Problem(self._settings.node_name, message)

    def _tell(self, problems: list[Problem]) -> None:
        """The log has it, also when the API cannot be told."""
        for problem in problems:
            log.warning("%s", problem.message)
        self.problems = problems
        self._on_problem()

    def _health(self) -> dict[str, Page]:
        return {"/healthz": self._healthz, "/livez": self._livez}

    def _healthz(self) -> Reply:
        told = reply(self._freshness, time.monotonic(), time.time(), self._is_eligible())
        self._statistics.proxy.healthz.inc(str(told.status))
        return told

    def _livez(self) -> Reply:
        told = reply(self._freshness, time.monotonic(), time.time())
        self._statistics.proxy.livez.inc(str(told.status))
        return told

    def _metrics(self) -> dict[str, Page]:
        """``/proxyMode`` has a word of kube-proxy's where one fits; none does."""
        settings: dict[str, object] = msgspec.to_builtins(self._settings)
        return {
            "/metrics": self._text,
            "/healthz": lambda: Reply(200, "ok"),
            "/proxyMode": lambda: Reply(200, "ebpf"),
            "/configz": lambda: Reply(200, json.dumps({"tulle.dev/agent": settings}), JSON),
            "/flagz": lambda: Reply(200, flags(settings)),
            "/statusz": self._status,
        }

    async def _text(self) -> Reply:
        return Reply(200, await self._statistics.text())

    def _status(self) -> Reply:
        up = (datetime.now(UTC) - self._started).total_seconds()
        started = self._started.isoformat(timespec="seconds")
        lines = (
            "tulle agent",
            f"Version: {__version__}",
            f"Started: {started}",
            f"Up: {up:.0f} s",
            f"Paths: {' '.join(sorted(path for shown in self._shown.values() for path in shown))}",
        )
        return Reply(200, "\n".join(lines) + "\n")


def flags(settings: Mapping[str, object]) -> str:
    """A line for each setting, spelled as on the command line."""
    return "".join(f"{_flag(name)}={value}\n" for name, value in sorted(settings.items()))


def _flag(field: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in field)
