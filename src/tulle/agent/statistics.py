"""What the agent counts: under kube-proxy's names where dashboards know them (S-71), and its own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Mapping
from typing import NamedTuple

from tulle import __version__
from tulle.kube.resources import Key
from tulle.pod_to_pod.datapath import Count, Datapath
from tulle.telemetry import process
from tulle.telemetry.metrics import Counter, Gauge, Histogram, Registry

FAMILIES = ("IPv4", "IPv6")
"""The label ``ip_family``. A round writes both, so it counts for both."""
POLICIES = ("internal", "external")
_ROUND = tuple(0.001 * 2**n for n in range(15))  # seconds: 1 ms to 16 s
_PROGRAMMING = (
    *(0.25, 0.5),
    *range(1, 60),
    *range(60, 120, 5),
    *range(120, 301, 30),
)
_REQUEST = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
"""kube-proxy's bounds, in seconds."""
_MAPS = {
    "endpoints": "address",
    "frontends": "frontend",
    "sets": "",
    "backends": "slot",
    "members": "member",
    "affinities": "affinity_key",
    "socket_flows": "socket_flow_key",
}
"""Maps whose entries are counted, with the struct of their keys; "" for a number. To count `flows` would
take too long: it holds a million."""
_STALE = 1.0  # seconds for which what was read of the kernel is good enough for somebody else


class Changes:
    """Changes of a kind that were seen, and those of them that are not written yet."""

    def __init__(self, registry: Registry, kind: str, what: str) -> None:
        name = f"kubeproxy_sync_proxy_rules_{kind}_changes"
        self._total = Counter(registry, f"{name}_total", f"Changes of {what} seen.").cell()
        self._pending = Gauge(registry, f"{name}_pending", f"Changes of {what} not written yet.").cell()
        self._under_way = 0.0

    def queued(self) -> None:
        self._total.value += 1
        self._pending.value += 1

    def begun(self) -> None:
        self._under_way = self._pending.value

    def synced(self) -> None:
        self._pending.value -= self._under_way


class _Readings(NamedTuple):
    counts: list[Count]
    entries: dict[str, int]


class Statistics:
    """All metrics of the agent; ``lacking`` has the Services that a Local policy leaves without endpoints."""

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath
        self.registry = registry = Registry()
        self.lacking: Mapping[Key, frozenset[tuple[int, str]]] = {}
        family = ("ip_family",)
        prefix = "kubeproxy_sync_proxy_rules"
        self._rounds = Histogram(
            registry, f"{prefix}_duration_seconds", "Writing what changed.", family, _ROUND
        )
        self._full = Histogram(
            registry, "kubeproxy_sync_full_proxy_rules_duration_seconds", "Writing all.", family, _ROUND
        )
        self._partial = Histogram(
            registry,
            "kubeproxy_sync_partial_proxy_rules_duration_seconds",
            "Writing some Services.",
            family,
            _ROUND,
        )
        self.queued = 0.0
        """When a change was last seen, in seconds since the epoch."""
        self._queued = Gauge(
            registry, f"{prefix}_last_queued_timestamp_seconds", "When a change was last seen.", family
        )
        self._synced = Gauge(
            registry, f"{prefix}_last_timestamp_seconds", "When a change was last written.", family
        )
        self.services = Changes(registry, "service", "Services")
        self.endpoints = Changes(registry, "endpoint", "EndpointSlices")
        self.programming = Histogram(
            registry,
            "kubeproxy_network_programming_duration_seconds",
            "From the change of an endpoint until the kernel has it.",
            family,
            _PROGRAMMING,
        )
        self._lacking = Gauge(
            registry,
            f"{prefix}_no_local_endpoints_total",
            "Services with a Local traffic policy and endpoints, but none here.",
            ("ip_family", "traffic_policy"),
        )
        code = ("code",)
        self.healthz = Counter(registry, "kubeproxy_proxy_healthz_total", "Answers of /healthz.", code)
        self.livez = Counter(registry, "kubeproxy_proxy_livez_total", "Answers of /livez.", code)
        self._reconciled = Histogram(
            registry,
            "kubeproxy_conntrack_reconciler_sync_duration_seconds",
            "Looking for UDP sockets whose backend is gone, and ending them.",
            family,
            _ROUND,
        )
        self._ended = Counter(registry, "tulle_udp_sockets_ended_total", "UDP sockets ended by that.").cell()
        self._requests = Counter(
            registry, "rest_client_requests_total", "Requests to the API.", ("code", "method", "host")
        )
        self._latencies = Histogram(
            registry,
            "rest_client_request_duration_seconds",
            "From a request to the API until its answer begins.",
            ("verb", "host"),
            _REQUEST,
        )
        self._failed = Gauge(registry, "tulle_services_failed", "Services that could not be written.").cell()
        way = ("hook", "reason")
        self._packets = Counter(
            registry, "tulle_packets_total", "Packets by hook and what became of them.", way
        )
        self._bytes = Counter(registry, "tulle_bytes_total", "The same in bytes.", way)
        self._entries = Gauge(registry, "tulle_map_entries", "Entries of eBPF maps.", ("map",))
        most = Gauge(registry, "tulle_map_max_entries", "How many fit in.", ("map",))
        for name in _MAPS:
            most.set(datapath.maps[name].most, name)
        contract = str(datapath.contract.enums["contract"]["CONTRACT_VERSION"].value)
        Gauge(registry, "tulle_build_info", "1.", ("version", "contract")).set(1, __version__, contract)
        process.register(registry)
        self._first = True
        self._reading = asyncio.Lock()
        self._read_at = 0.0

    def begun(self) -> None:
        self.services.begun()
        self.endpoints.begun()

    def synced(self, wall: float, seconds: float, failed: int) -> None:
        """A round took ``seconds``; the first one writes all."""
        for family in FAMILIES:
            self._rounds.observe(seconds, family)
            (self._full if self._first else self._partial).observe(seconds, family)
            self._synced.set(wall, family)
        self.services.synced()
        self.endpoints.synced()
        self._first = False
        self._failed.value = failed

    def reconciled(self, seconds: float, ended: int) -> None:
        """So many UDP sockets had a backend that is gone."""
        for family in FAMILIES:
            self._reconciled.observe(seconds, family)
        self._ended.value += ended

    def requested(self, host: str, method: str, code: str, seconds: float) -> None:
        """A request to the API was answered, or failed."""
        self._requests.inc(code, method, host)
        self._latencies.observe(seconds, method, host)

    async def text(self) -> str:
        """All of them, in Prometheus' text format. The kernel is read once for all who ask in one second."""
        async with self._reading:
            if time.monotonic() - self._read_at > _STALE:
                readings = await asyncio.to_thread(self._read)
                self._take(readings)
                self._read_at = time.monotonic()
        return self.registry.text()

    def _read(self) -> _Readings:
        """In a thread: it touches nothing but maps."""
        sizes = {name: len(self._datapath.contract.pack(key)) if key else 4 for name, key in _MAPS.items()}
        maps = self._datapath.maps
        return _Readings(
            list(self._datapath.counters()), {name: maps[name].count(size) for name, size in sizes.items()}
        )

    def _take(self, readings: _Readings) -> None:
        for count in readings.counts:
            self._packets.set(count.packets, count.hook, count.reason)
            self._bytes.set(count.bytes, count.hook, count.reason)
        for name, used in readings.entries.items():
            self._entries.set(used, name)
        for family in FAMILIES:
            self._queued.set(self.queued, family)
        lacking = Tally(pair for pairs in self.lacking.values() for pair in pairs)
        for family in FAMILIES:
            for policy in POLICIES:
                self._lacking.set(lacking[int(family[-1]), policy], family, policy)
