"""All that the agent counts, and what it reads from the kernel's counters when it is asked."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from tulle import __version__
from tulle.agent.health.proxy_metrics import ProxyMetrics
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.pinned import Count
from tulle.telemetry import process
from tulle.telemetry.metrics import Counter, Gauge, Histogram, Registry

_REQUEST = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
"""The bounds of Kubernetes' own clients, in seconds."""
_MAPS = {
    "endpoints": "address",
    "frontends": "frontend",
    "sets": "",
    "backends": "slot",
    "members": "member",
    "affinities": "affinity_key",
    "socket_flows": "socket_flow_key",
}
"""Maps whose entries are counted, with the struct of their keys; "" for a number."""
_FLOWS = "flows"
"""The map that is not counted like these: it holds a million. The kernel says how many."""
_STALE = 1.0  # seconds for which what was read of the kernel is good enough for somebody else


class _Readings(NamedTuple):
    counts: list[Count]
    entries: dict[str, int]


class Statistics:
    """``proxy`` has the metrics of Services."""

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath
        self._registry = registry = Registry()
        self.proxy = ProxyMetrics(registry)
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
        self.failed = Gauge(registry, "tulle_services_failed", "Services that could not be written.").cell()
        way = ("hook", "reason")
        self._packets = Counter(registry, "tulle_packets_total", "Packets, and what became of them.", way)
        self._bytes = Counter(registry, "tulle_bytes_total", "The same in bytes.", way)
        self._entries = Gauge(registry, "tulle_map_entries", "Entries of eBPF maps.", ("map",))
        most = Gauge(registry, "tulle_map_max_entries", "How many fit in.", ("map",))
        for name in (*_MAPS, _FLOWS):
            most.set(datapath.maps[name].most, name)
        contract = str(datapath.contract.enums["contract"]["CONTRACT_VERSION"].value)
        Gauge(registry, "tulle_build_info", "1.", ("version", "contract")).set(1, __version__, contract)
        process.register(registry)
        self._reading = asyncio.Lock()
        self._read_at = 0.0

    def requested(self, host: str, method: str, code: str, seconds: float) -> None:
        """A request to the API was answered, or failed."""
        self._requests.inc(code, method, host)
        self._latencies.observe(seconds, method, host)

    async def text(self) -> str:
        """All of them, in Prometheus' text format. The kernel is read once for all who ask in one second."""
        async with self._reading:
            if time.monotonic() - self._read_at > _STALE:
                self._take(await asyncio.to_thread(self._read))
                self._read_at = time.monotonic()
        self.proxy.refresh()
        return self._registry.text()

    def _read(self) -> _Readings:
        """In a thread: it touches nothing but maps."""
        maps, pack = self._datapath.maps, self._datapath.contract.pack
        sizes = {name: len(pack(key)) if key else 4 for name, key in _MAPS.items()}
        entries = {name: maps[name].count(size) for name, size in sizes.items()}
        flows = self._datapath.count_flows()
        entries |= {} if flows is None else {_FLOWS: flows}
        return _Readings(list(self._datapath.counters()), entries)

    def _take(self, readings: _Readings) -> None:
        for count in readings.counts:
            self._packets.set(count.packets, count.hook, count.reason)
            self._bytes.set(count.bytes, count.hook, count.reason)
        for name, used in readings.entries.items():
            self._entries.set(used, name)
