"""CNI ADD and DEL as a container runtime sees them: from the start of the plugin to its result."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from bench import nodes, plugin
from bench.plugin import Sandbox
from bench.statistics import Better, Figure, percentile

_PODS = 200
_SIDE_BY_SIDE = 8

_TARGETS = {
    "ADD, p50": 10.0,
    "ADD, p99": 25.0,
    "DEL, p50": 8.0,
    "agent, resident": 60.0,
}


def measure(folder: Path, rounds: int, tick: Callable[[str], None]) -> list[Figure]:
    """Connects and disconnects the same 200 sandboxes in each round, one by one and then eight at a time."""
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        [node] = nodes.cluster(folder, stack, 1)
        tick(f"making {_PODS} network namespaces")
        sandboxes = [node.sandbox(f"pod-{number}") for number in range(_PODS)]
        for number in range(rounds):
            tick(f"round {number + 1} of {rounds}")
            for name, value in _round(node.socket, sandboxes).items():
                found.setdefault(name, []).append(value)
            resident, proportional = nodes.memory(node.agent.pid)
            found.setdefault("agent, resident", []).append(resident)
            found.setdefault("agent, proportional", []).append(proportional)
    return [
        Figure("cni", name, _unit(name), tuple(values), _TARGETS.get(name), _better(name))
        for name, values in found.items()
    ]


def _unit(name: str) -> str:
    if name.startswith("agent"):
        return "MB"
    return "1/s" if name.endswith("a second") else "ms"


def _better(name: str) -> Better:
    return "higher" if name.endswith("a second") else "lower"


def _round(socket: Path, sandboxes: list[Sandbox]) -> dict[str, float]:
    def timed(command: str) -> Callable[[Sandbox], float]:
        return lambda sandbox: plugin.call(socket, command, sandbox)[0] * 1000

    spawn = [plugin.call(socket, "VERSION")[0] * 1000 for _ in sandboxes]
    add = list(map(timed("ADD"), sandboxes))
    delete = list(map(timed("DEL"), sandboxes))
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        begin = time.perf_counter()
        together = list(pool.map(timed("ADD"), sandboxes))
        seconds = time.perf_counter() - begin
        list(pool.map(timed("DEL"), sandboxes))
    return {
        "ADD, p50": statistics.median(add),
        "ADD, p99": percentile(add, 0.99),
        "DEL, p50": statistics.median(delete),
        "DEL, p99": percentile(delete, 0.99),
        "VERSION (the plugin alone), p50": statistics.median(spawn),
        f"ADD, {_SIDE_BY_SIDE} at a time, p50": statistics.median(together),
        f"ADD, {_SIDE_BY_SIDE} at a time, p99": percentile(together, 0.99),
        f"ADD, {_SIDE_BY_SIDE} at a time, a second": len(sandboxes) / seconds,
    }
