"""What is counted, under the names that CoreDNS uses and dashboards know (D-30)."""

from __future__ import annotations

from dataclasses import dataclass

from tulle.dns import wire
from tulle.dns.names import ROOT
from tulle.telemetry import process
from tulle.telemetry.metrics import SIZES, Buckets, Cell, Counter, Gauge, Histogram, Registry

TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 13: "HINFO", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV",
    35: "NAPTR", 43: "DS", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 251: "IXFR",
    252: "AXFR", 255: "ANY",
}  # fmt: skip
"""Others are counted as "other": a client must not be able to make new labels."""

RCODES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS",
}  # fmt: skip

_LATENCY = tuple(0.001 * 2**n for n in range(20))
"""Bounds in seconds for the time from a change in the cluster to its answer here."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The numbers that a query of one transport, family, zone and type changes."""

    requests: Cell
    request_size: Buckets
    response_size: Buckets
    duration: Buckets


class Statistics:
    """All metrics of the server itself; cache and forwarder add theirs to ``registry``."""

    def __init__(self, port: int, zone: bytes) -> None:
        self.registry = registry = Registry()
        self._server = f"dns://:{port}"
        self._zone = wire.text(zone)
        own = ("server", "zone", "view")
        self._requests = Counter(
            registry, "coredns_dns_requests_total", "DNS requests.", (*own, "proto", "family", "type")
        )
        self._responses = Counter(
            registry, "coredns_dns_responses_total", "DNS responses.", (*own, "rcode", "plugin")
        )
        self._durations = Histogram(
            registry, "coredns_dns_request_duration_seconds", "From reading a request to its response.", own
        )
        sized = (*own, "proto")
        self._request_sizes = Histogram(
            registry, "coredns_dns_request_size_bytes", "Size of requests.", sized, SIZES
        )
        self._response_sizes = Histogram(
            registry, "coredns_dns_response_size_bytes", "Size of responses.", sized, SIZES
        )
        self.panics = Counter(registry, "coredns_panics_total", "Queries whose handling failed.").cell()
        self.dropped = Counter(
            registry, "tulle_dns_dropped_total", "Packets that got no answer, by reason.", ("reason",)
        )
        self.programming = Histogram(
            registry,
            "coredns_kubernetes_dns_programming_duration_seconds",
            "From the change of an endpoint to the answer that has it.",
            ("service_kind",),
            _LATENCY,
        )
        self.objects = Gauge(registry, "tulle_dns_objects", "Objects that answers come from.", ("kind",))
        self.connections = Gauge(registry, "tulle_dns_tcp_connections", "Open TCP connections.").cell()
        process.register(registry)
        self._cells: dict[tuple[str, str, bool, int], Cells] = {}
        self._results: dict[tuple[bool, int], Cell] = {}

    def cells(self, proto: str, family: str, ours: bool, qtype: int) -> Cells:
        """``proto`` is udp or tcp, ``family`` 1 or 2 as CoreDNS counts them."""
        key = (proto, family, ours, qtype if qtype in TYPES else 0)
        found = self._cells.get(key)
        if found is None:
            own = (self._server, self._zone if ours else wire.text(ROOT), "")
            kind = TYPES.get(qtype, "other")
            found = self._cells[key] = Cells(
                self._requests.cell(*own, proto, family, kind),
                self._request_sizes.cell(*own, proto),
                self._response_sizes.cell(*own, proto),
                self._durations.cell(*own),
            )
        return found

    def result(self, ours: bool, rcode: int) -> Cell:
        """How often a response had this code."""
        found = self._results.get((ours, rcode))
        if found is None:
            own = (self._server, self._zone if ours else wire.text(ROOT), "")
            plugin = "kubernetes" if ours else "forward"
            name = RCODES.get(rcode, str(rcode))
            found = self._results[ours, rcode] = self._responses.cell(*own, name, plugin)
        return found
