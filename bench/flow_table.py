"""The flow table: what it takes, what fits in, and what goes when it is full.

When it is full, the kernel looks at 128 entries from the cold end. Where all of them are in use, it takes one
of them all the same (``__bpf_lru_list_shrink``), so not quite everything stays that is in use.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import holding, namespaces, nodes, objects, outside, services
from bench.forward import compile_program, serve
from bench.holding import Held
from bench.outside import WIRE, Site
from bench.statistics import Figure
from tulle.kernel.bpf_maps import Map
from tulle.kernel.btf import Contract
from tulle.kernel.libbpf import call
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.programs import DatapathSettings

MILLION = 1_000_000
_HELD = 500
_HELD_PORT = 5203
_FIRST_PORT = 5210
_SECONDS = 2.0  # that a held connection's answer may take
_LOADS = 10  # Services that new connections go to: each adds two flows for each port that a client has for it
_MILLISECONDS = 1300
_PIECES = 8
_BATCH = 50_000
_LRU_HASH = 9  # BPF_MAP_TYPE_LRU_HASH
_MEGABYTE = 1e6


@dataclass(slots=True)
class _Samples:
    """One value per round."""

    memory: list[float] = field(default_factory=list)
    difference: list[float] = field(default_factory=list)
    fitting: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    pushed: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def figures(self) -> Iterator[Figure]:
        def figure(name: str, unit: str, values: list[float], target: float | None = None) -> Figure:
            return Figure("external", f"flow table, {name}", unit, tuple(values), target)

        yield Figure("external", "flow table, kernel memory", "MB", tuple(self.memory), 200.0, "lower")
        yield Figure(
            "external", "flow table, free memory that went", "MB", tuple(self.difference), 200.0, "lower"
        )
        yield figure("idle flows that fit", "", self.fitting, MILLION)
        yield figure("full: new flows by real connections", "", self.pushed)
        yield figure("full: older connections in use that go on", "%", self.answered, 99.0)
        yield figure("full: their flows that are kept", "%", self.kept, 99.0)
        yield figure("full: flows that went that were idle", "%", self.idle, 100.0)
        yield figure("full / empty, connections, IPv4", "×", self.rates, 0.9)


class _Flows:
    """The table of a node, to be filled and counted."""

    def __init__(self, table: Map, contract: Contract) -> None:
        self.table = table
        self.most = table.most
        self._key = contract.pack("flow")
        self._state = contract.pack("flow_state", kind=contract.enums["flow_kind"]["FLOW_TRANSLATED"])

    def idle(self, number: int) -> bytes:
        """The key of a flow that no packet belongs to, from 100.64.0.0/10."""
        source = bytes(10) + b"\xff\xff" + struct.pack("!I", 0x64400000 + number)
        return source + self._key[len(source) : -8] + bytes((0, 80, 0, 80, 6, 0, 0, 0))

    def fill(self, first: int, count: int) -> None:
        for start in range(first, first + count, _BATCH):
            keys = [self.idle(n) for n in range(start, min(start + _BATCH, first + count))]
            self.table.update_all(keys, [self._state] * len(keys))

    def keys(self) -> set[bytes]:
        return set(self.table.keys(len(self._key)))

    def clear(self) -> None:
        keys = list(self.keys())
        for start in range(0, len(keys), _BATCH):
            self.table.discard_all(keys[start : start + _BATCH])


def measure(folder: Path, rounds: int, tick: Callable[[str], None]) -> list[Figure]:
    """Each round begins with an empty table. Raises ``LabError`` when a new connection fails."""
    program = compile_program()
    cpu = str(max(os.sched_getaffinity(0)))
    samples = _Samples()
    with ExitStack() as stack:
        site, (node,) = outside.tulle(folder, stack, 1, lay=nodes.one_wire)
        datapath = Datapath(node.bpffs, DatapathSettings())
        stack.callback(datapath.close)
        ports = range(_FIRST_PORT, _FIRST_PORT + _LOADS)
        first = [services.ends(site.pods, port) for port in (*ports, _HELD_PORT)]
        services.fill(datapath, len(first), first, objects.load_balanced)
        for port in ports:
            serve(site.servers[0], program, cpu, stack, str(port))
        flows = _Flows(datapath.maps["flows"], datapath.contract)
        for number in range(rounds):
            tick(f"flow table, round {number + 1} of {rounds}")
            _memory(flows.table, samples)
            _round(flows, site, lambda port: _load(site, program, cpu, port), samples)
    return list(samples.figures())


def _round(flows: _Flows, site: Site, load: Callable[[int], float], samples: _Samples) -> None:
    flows.clear()
    flows.fill(0, MILLION)
    samples.fitting.append(len(flows.keys()))
    flows.clear()
    empty = load(objects.node_port(0))
    flows.clear()
    with ExitStack() as stack:
        held = _hold(site, stack)
        old = flows.keys()
        for piece in range(_PIECES):  # what is in use is the oldest then
            flows.fill(piece * flows.most // _PIECES, flows.most // _PIECES)
            held.ask()
        before, rates = flows.keys(), []
        for number in range(_LOADS):
            rates.append(load(objects.node_port(number)))
            held.ask()
        after = flows.keys()
        gone, old_and_gone = before - after, old - after
        samples.pushed.append(len(after - before))
        samples.answered.append(100 * sum(held.ask().values()) / held.count)
        samples.kept.append(100 * (1 - len(old_and_gone) / len(old)))
        samples.idle.append(100 * (1 - len(gone & old) / max(1, len(gone))))
        samples.rates.append(rates[0] / empty)
    flows.clear()


def _hold(site: Site, stack: ExitStack) -> Held:
    holding.serve(site.servers[0], _HELD_PORT, "1", stack)
    return Held(site.clients[WIRE], site.entry[0], objects.node_port(_LOADS), _HELD, _SECONDS, stack)


def _load(site: Site, program: Path, cpu: str, port: int) -> float:
    """New connections for a while, each with flows of its own; how many a second."""
    numbers = (site.entry[0], str(port), str(_MILLISECONDS), cpu)
    return float(namespaces.run(site.clients[WIRE], [program, "connections", *numbers], 30.0))


def _memory(table: Map, samples: _Samples) -> None:
    """As the kernel accounts for the map, and what another one like it takes of the free memory."""
    told = Path(f"/proc/self/fdinfo/{table.fd}").read_text()
    shape = {line.partition(":")[0]: line.partition(":")[2].strip() for line in told.splitlines()}
    samples.memory.append(int(shape["memlock"]) / _MEGABYTE)
    assert int(shape["map_type"]) == _LRU_HASH
    sizes = [int(shape[name]) for name in ("key_size", "value_size", "max_entries")]
    before = _free()
    copy = call("make a flow table", "bpf_map_create", _LRU_HASH, b"copy", *sizes, ctypes.c_void_p(None))
    samples.difference.append((before - _free()) / _MEGABYTE)
    os.close(copy)


def _free() -> int:
    """Bytes of memory that the kernel has for anybody."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemFree:"))
