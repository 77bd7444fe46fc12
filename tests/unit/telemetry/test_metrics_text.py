"""Metrics in Prometheus' text format, and those of the process itself."""

from __future__ import annotations

import os
import time

import pytest
from tests.exposition import read, value

from tulle.telemetry.metrics import Counter, Gauge, Histogram, Registry
from tulle.telemetry.process import read_process, register


def test_each_kind_as_prometheus_reads_it() -> None:
    registry = Registry()
    Counter(registry, "c_total", "Counts.", ("a",)).inc('x"\n\\', by=2)
    Gauge(registry, "g", "Now.", read=lambda: 1.5)
    histogram = Histogram(registry, "h", "Spread.", ("b",), (1, 2))
    for number in (1, 1.5, 7):
        histogram.observe(number, "y")
    text = registry.text()
    assert {name: family.kind for name, family in read(text).items()} == {
        "c_total": "counter",
        "g": "gauge",
        "h": "histogram",
    }
    assert value(text, "c_total", a=r"x\"\n\\") == 2
    assert value(text, "g") == 1.5
    assert [value(text, "h_bucket", b="y", le=le) for le in ("1", "2", "+Inf")] == [1, 2, 3]
    assert (value(text, "h_sum", b="y"), value(text, "h_count", b="y")) == (9.5, 3)


def test_a_name_is_taken_once_and_labels_are_complete() -> None:
    registry = Registry()
    Gauge(registry, "g", "Now.")
    with pytest.raises(ValueError, match="already"):
        Counter(registry, "g", "Again.")
    with pytest.raises(ValueError, match="labels"):
        Counter(registry, "d_total", "Labels.", ("a",)).inc()


def test_a_process_whose_name_looks_like_fields() -> None:
    """proc(5): the command stands in parentheses and may hold blanks and parentheses itself."""
    fields = ["S", "1", "1", "1", "0", "-1", "0", "0", "0", "0", "0", "250", "50", "0", "0"]
    fields += ["20", "0", "4", "0", "700", "4096000", "25"]
    told = read_process(f"7 (a) b (c) {' '.join(fields)} 18446744073709551615")
    ticks = os.sysconf("SC_CLK_TCK")
    assert told == (300 / ticks, 700 / ticks, 4096000, 25 * os.sysconf("SC_PAGE_SIZE"))


def test_what_is_told_of_this_process() -> None:
    registry = Registry()
    register(registry)
    before = registry.text()
    descriptor = os.open("/dev/null", os.O_RDONLY)
    try:
        after = registry.text()
    finally:
        os.close(descriptor)
    assert value(after, "process_open_fds") == value(before, "process_open_fds") + 1
    assert value(after, "process_open_fds") <= value(after, "process_max_fds")
    assert 0 < time.time() - value(after, "process_start_time_seconds") < 3600
    assert value(after, "process_cpu_seconds_total") > 0
    resident = value(after, "process_resident_memory_bytes")
    assert 1 << 20 < resident < value(after, "process_virtual_memory_bytes")
