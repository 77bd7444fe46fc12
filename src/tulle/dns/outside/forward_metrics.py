"""What is counted about names outside the cluster, under the names that CoreDNS's dashboards use (D-30)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tulle.dns.outside.response import Response
from tulle.telemetry.metrics import Counter, Gauge, Histogram, Registry

_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


class ForwardMetrics:
    """``sizes`` gives how many answers and how many denials are kept."""

    def __init__(self, registry: Registry, sizes: Callable[[], tuple[int, int]]) -> None:
        _Entries(registry, sizes)
        hits = Counter(registry, "coredns_cache_hits_total", "Queries answered by the cache.", ("type",))
        self.success_hits, self.denial_hits = hits.cell("success"), hits.cell("denial")
        self.misses = Counter(
            registry, "coredns_cache_misses_total", "Queries the cache could not answer."
        ).cell()
        self.prefetches = Counter(
            registry, "coredns_cache_prefetch_total", "Answers fetched again before they were over."
        ).cell()
        self.stale = Counter(
            registry, "coredns_cache_served_stale_total", "Queries answered by what was over."
        ).cell()
        self._requests = Counter(
            registry, "coredns_forward_requests_total", "Queries sent to each upstream.", ("to",)
        )
        self._responses = Counter(
            registry, "coredns_forward_responses_total", "Answers of each upstream.", ("rcode", "to")
        )
        self._seconds = Histogram(
            registry,
            "coredns_proxy_request_duration_seconds",
            "How long each upstream took to answer.",
            ("proxy_name", "to", "rcode"),
        )
        self.all_down = Counter(
            registry, "coredns_forward_healthcheck_broken_total", "Queries while every upstream was down."
        ).cell()
        self.rejects = Counter(
            registry,
            "coredns_forward_max_concurrent_rejects_total",
            "Queries rejected as too many waited for upstreams.",
        ).cell()
        self.failed_reloads = Counter(
            registry, "coredns_reload_failed_total", "Configurations that could not be used."
        ).cell()

    def observe(self, to: str, response: Response | None, seconds: float) -> None:
        """One query to an upstream has ended, with an answer or without."""
        self._requests.inc(to)
        if response is not None:
            rcode = _RCODES.get(response.rcode, str(response.rcode))
            self._responses.inc(rcode, to)
            self._seconds.observe(seconds, "forward", to, rcode)


class _Entries(Gauge):
    """Asks for its two values when it is read."""

    def __init__(self, registry: Registry, sizes: Callable[[], tuple[int, int]]) -> None:
        super().__init__(registry, "coredns_cache_entries", "Answers that are kept.", ("type",))
        self._sizes = sizes

    def lines(self) -> Iterator[str]:
        """The samples."""
        for kind, size in zip(("success", "denial"), self._sizes(), strict=True):
            self.set(size, kind)
        return super().lines()
