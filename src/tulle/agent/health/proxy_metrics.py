"""What is counted of Services, under kube-proxy's names, which dashboards know (S-71)."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping

from tulle.kube.resources import Key
from tulle.telemetry.metrics import Counter, Gauge, Histogram, Registry

FAMILIES = ("IPv4", "IPv6")
"""The label ``ip_family``. A round writes both, so it counts for both."""
POLICIES = ("internal", "external")
_FAMILY = ("ip_family",)
_ROUND = tuple(0.001 * 2**n for n in range(15))  # seconds: 1 ms to 16 s
_PROGRAMMING = (0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))
"""kube-proxy's bounds, in seconds."""


class Changes:
    """Changes of a kind that were seen, and those of them that are not written yet."""

    def __init__(self, registry: Registry, kind: str, what: str) -> None:
        name = f"kubeproxy_sync_proxy_rules_{kind}_changes"
        self._total = Counter(registry, f"{name}_total", f"Changes of {what} seen.").cell()
        self._pending = Gauge(registry, f"{name}_pending", f"Changes of {what} not written yet.").cell()
        self._under_way = 0.0

    def queued(self) -> None:
        """One more was seen."""
        self._total.value += 1
        self._pending.value += 1

    def begun(self) -> None:
        """All that wait are being written."""
        self._under_way = self._pending.value

    def synced(self) -> None:
        """They are."""
        self._pending.value -= self._under_way


class Rounds:
    """How long it takes to write what changed, and when that last was."""

    def __init__(self, registry: Registry) -> None:
        self._all = _durations(registry, "sync_proxy_rules", "Writing what changed.")
        self._full = _durations(registry, "sync_full_proxy_rules", "Writing all.")
        self._partial = _durations(registry, "sync_partial_proxy_rules", "Writing some Services.")
        last = "kubeproxy_sync_proxy_rules_last"
        self._queued = Gauge(
            registry, f"{last}_queued_timestamp_seconds", "When a change was last seen.", _FAMILY
        )
        self._synced = Gauge(registry, f"{last}_timestamp_seconds", "When a round last ended.", _FAMILY)
        self._first = True
        self.queued = 0.0
        """When a change was last seen, in seconds since the epoch."""

    def synced(self, wall: float, seconds: float) -> None:
        """One took ``seconds``, and ended at ``wall``, since the epoch; the first one writes all."""
        for family in FAMILIES:
            self._all.observe(seconds, family)
            (self._full if self._first else self._partial).observe(seconds, family)
            self._synced.set(wall, family)
        self._first = False

    def refresh(self) -> None:
        """Before the metrics are shown: changes may come by the thousand."""
        for family in FAMILIES:
            self._queued.set(self.queued, family)


class ProxyMetrics:
    """``lacking``: families and policies, by Services that a Local policy leaves without endpoints."""

    def __init__(self, registry: Registry) -> None:
        self.rounds = Rounds(registry)
        self.services = Changes(registry, "service", "Services")
        self.endpoints = Changes(registry, "endpoint", "EndpointSlices")
        self.programming = Histogram(
            registry,
            "kubeproxy_network_programming_duration_seconds",
            "From the change of an endpoint until the kernel has it.",
            _FAMILY,
            _PROGRAMMING,
        )
        self._reconciled = _durations(
            registry, "conntrack_reconciler_sync", "Looking for UDP sockets whose backend is gone."
        )
        self._ended = Counter(
            registry,
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "UDP sockets ended, their backend being gone.",
            _FAMILY,
        )
        self._lacking = Gauge(
            registry,
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Services with a Local traffic policy and endpoints, but none here.",
            ("ip_family", "traffic_policy"),
        )
        code = ("code",)
        self.healthz = Counter(registry, "kubeproxy_proxy_healthz_total", "Answers of /healthz.", code)
        self.livez = Counter(registry, "kubeproxy_proxy_livez_total", "Answers of /livez.", code)
        self.lacking: Mapping[Key, frozenset[tuple[int, str]]] = {}

    def reconciled(self, seconds: float, ended: Mapping[int, int]) -> None:
        """UDP sockets were looked at, and some ended: how many, by IP version."""
        for family in FAMILIES:
            self._reconciled.observe(seconds, family)
            self._ended.inc(family, by=ended.get(int(family[-1]), 0))

    def refresh(self) -> None:
        """Before the metrics are shown."""
        self.rounds.refresh()
        lacking = Tally(pair for pairs in self.lacking.values() for pair in pairs)
        for family in FAMILIES:
            for policy in POLICIES:
                self._lacking.set(lacking[int(family[-1]), policy], family, policy)


def _durations(registry: Registry, what: str, help: str) -> Histogram:
    return Histogram(registry, f"kubeproxy_{what}_duration_seconds", help, _FAMILY, _ROUND)
