"""Packets from Pod to Pod: Tulle beside a bare wire and beside what the kernel does by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import baselines, namespaces, nodes
from bench.baselines import Pair
from bench.statistics import Figure, ratios
from tulle.errors import LabError

_SOURCE = Path(__file__).with_name("rr.c")
_BUILD = Path(".build")
PORT = "5201"
MILLISECONDS = 300  # of measuring, after a warm-up
PATIENCE = 15.0  # seconds for one run
FAMILIES = ("IPv4", "IPv6")

Samples = dict[tuple[str, str, str], list[float]]
"""Rates by variant, mode and family; one value per round."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``ours`` and ``baseline`` are variants; ``target`` is the least ratio of their rates."""

    ours: str
    baseline: str
    mode: str
    target: float


VARIANTS = {
    "a": "bare veth pair",
    "b": "Linux bridge",
    "c": "Tulle, same node",
    "d": "node to node",
    "e": "kernel routes",
    "f": "Tulle native",
    "g": "kernel VXLAN and bridge",
    "h": "Tulle overlay",
}
MODES = {"requests": "1/s", "stream": "bytes/s"}
COMPARISONS = (
    Comparison("c", "a", "requests", 0.90),
    Comparison("c", "b", "requests", 1.05),
    Comparison("f", "d", "requests", 0.85),
    Comparison("f", "e", "requests", 1.05),
    Comparison("h", "g", "requests", 1.05),
    Comparison("c", "b", "stream", 1.0),
    Comparison("f", "e", "stream", 1.0),
    Comparison("h", "g", "stream", 1.0),
)


def measure(folder: Path, rounds: int, tick: Callable[[str], None]) -> list[Figure]:
    """Each round runs all variants one after the other, forth and back in turn: none is always the first.

    Raises ``LabError`` or ``KernelError`` when a variant cannot be set up.
    """
    program = compile_program()
    cpu = str(max(os.sched_getaffinity(0)))
    samples: Samples = {}
    with ExitStack() as stack:
        pairs = _build(folder, stack)
        for pair in pairs.values():
            serve(pair.server, program, cpu, stack)
        cases = [(v, m, f) for m in MODES for f in range(len(FAMILIES)) for v in pairs]
        for number in range(rounds):
            tick(f"round {number + 1} of {rounds}")
            for variant, mode, family in cases if number % 2 == 0 else reversed(cases):
                rate = _rate(pairs[variant], program, mode, family, cpu)
                samples.setdefault((variant, mode, FAMILIES[family]), []).append(rate)
    return figures(samples)


def figures(samples: Mapping[tuple[str, str, str], Sequence[float]]) -> list[Figure]:
    """The ratios that were promised, then the rates that they come from. Pure."""
    return compare("forward", COMPARISONS, samples, VARIANTS.__getitem__, "TCP ")


def compare(
    group: str,
    comparisons: Iterable[Comparison],
    samples: Mapping[tuple[str, str, str], Sequence[float]],
    show: Callable[[str], str] = str,
    protocol: str = "",
) -> list[Figure]:
    """The ratios of rates, then the rates themselves. Pure.

    ``show``: how a variant is named for people; ``protocol`` is put before the mode.
    """
    compared = [
        Figure(
            group,
            f"{show(c.ours)} / {show(c.baseline)}, {protocol}{c.mode}, {family}",
            "×",
            ratios(samples[c.ours, c.mode, family], samples[c.baseline, c.mode, family]),
            c.target,
        )
        for c in comparisons
        for family in FAMILIES
    ]
    rates = [
        Figure(group, f"{show(variant)}, {protocol}{mode}, {family}", MODES.get(mode, "1/s"), tuple(values))
        for (variant, mode, family), values in sorted(samples.items())
    ]
    return compared + rates


def compile_program() -> Path:
    """The measuring program, made anew when its source has changed."""
    program = _BUILD / "rr"
    if not program.exists() or program.stat().st_mtime < _SOURCE.stat().st_mtime:
        _BUILD.mkdir(exist_ok=True)
        done = subprocess.run(
            ["cc", "-O2", "-Wall", "-o", program, _SOURCE], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise LabError(f"{_SOURCE.name} cannot be compiled: {done.stderr.strip()}")
    return program.resolve()


def _build(folder: Path, stack: ExitStack) -> dict[str, Pair]:
    """All variants side by side; those that are not being measured are idle."""
    direct, routed = baselines.between_nodes(folder / "routed", stack)
    same, native = _tulle(folder / "native", stack, "native")
    _, overlay = _tulle(folder / "overlay", stack, "overlay")
    return {
        "a": baselines.bare_veth(folder / "veth", stack),
        "b": baselines.bridge(folder / "bridge", stack),
        "c": same,
        "d": direct,
        "e": routed,
        "f": native,
        "g": baselines.vxlan(folder / "vxlan", stack),
        "h": overlay,
    }


def _tulle(folder: Path, stack: ExitStack, routing: str) -> tuple[Pair, Pair]:
    """Two Pods of one node, and two of different nodes."""
    one, two = nodes.cluster(folder, stack, 2, f"--routing={routing}")
    client, _ = one.pod("client")
    here, there = one.pod("server"), two.pod("server")
    return Pair(client, *here), Pair(client, *there)


def serve(place: Path, program: Path, cpu: str, stack: ExitStack, port: str = PORT) -> None:
    """The other end of the measurements, in the namespace at ``place``."""
    server = namespaces.start(place, [program, "serve", port, cpu], stack)
    if not server.stdout or server.stdout.readline() != b"ready\n":
        raise LabError(f"the server in {place} does not start")


def _rate(pair: Pair, program: Path, mode: str, family: int, cpu: str) -> float:
    command: list[str | Path] = [program, mode, pair.addresses[family], PORT, str(MILLISECONDS), cpu]
    return float(namespaces.run(pair.client, command, PATIENCE))
