"""What Prometheus' own client libraries tell of a process, from ``/proc``."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

from tulle.telemetry.metrics import Counter, Gauge, Registry

_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """CPU seconds, seconds from boot to its start, and bytes."""

    cpu: float
    start: float
    virtual: int
    resident: int


def read_process(stat: str) -> Process:
    """From the text of ``/proc/PID/stat``. The command, in parentheses, may hold anything."""
    fields = stat.rpartition(")")[2].split()
    user, system, start, virtual, resident = (int(fields[i]) for i in (11, 12, 19, 20, 21))
    return Process((user + system) / _TICKS, start / _TICKS, virtual, resident * _PAGE)


def register(registry: Registry) -> None:
    """Adds the metrics of this process, read whenever they are asked for."""
    Counter(registry, "process_cpu_seconds_total", "User and system CPU time.", read=lambda: _here().cpu)
    Gauge(registry, "process_resident_memory_bytes", "Memory in RAM.", read=lambda: _here().resident)
    Gauge(registry, "process_virtual_memory_bytes", "Address space.", read=lambda: _here().virtual)
    start = _boot_time() + _here().start
    Gauge(registry, "process_start_time_seconds", "Since the epoch.", read=lambda: start)
    Gauge(registry, "process_open_fds", "Open file descriptors.", read=_descriptors)
    Gauge(registry, "process_max_fds", "How many there may be.", read=_most_descriptors)


def _here() -> Process:
    return read_process(Path("/proc/self/stat").read_text())


def _boot_time() -> int:
    """Seconds since the epoch."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("btime "))


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) - 1  # one of them is for the look


def _most_descriptors() -> float:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return float("inf") if most == resource.RLIM_INFINITY else most
