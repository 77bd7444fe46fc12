"""Pod to Service beside Pod to Pod, at the socket and per packet, and beside nftables with verdict maps."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import msgspec

from bench import baselines, namespaces, nodes, objects, verdict_maps
from bench.forward import (
    FAMILIES,
    MILLISECONDS,
    PATIENCE,
    PORT,
    Comparison,
    Samples,
    compare,
    compile_program,
    serve,
)
from bench.nodes import Node
from bench.statistics import Figure
from tulle.errors import LabError
from tulle.kernel import netns
from tulle.kube.cache import Change
from tulle.lab import cgroup
from tulle.lab.spec import Family
from tulle.model.services import EndpointSlice, Service
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.programs import DatapathSettings
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.table import Table
from tulle.pod_to_service.tracker import Tracker

FEW, MANY, NFT = 1, 10_000, 5_000
_ENDPOINTS = 2  # of each Service that is only there
_DIRECT = "5202"  # where Pods are reached without a Service
_BOTH: tuple[Family, ...] = ("ipv4", "ipv6")

Refusals = dict[tuple[str, str], list[float]]
"""Milliseconds by way and family; one value per round."""
Make = Callable[[int, Sequence[Family]], objects.Object]
"""Makes the Service with a number, in these families."""
Ends = Mapping[Family, tuple[list[str], int]]
"""A Service's endpoints: their addresses, and their port."""


@dataclass(frozen=True, slots=True)
class Way:
    """A client in its namespace and cgroup (none: ours), and where it connects to, IPv4 first."""

    client: Path
    group: Path | None
    addresses: tuple[str, ...]
    port: int

    def rate(self, program: Path, mode: str, family: int, cpu: str) -> float:
        """What the measuring program tells. Raises ``LabError``."""
        join = (*cgroup.JOIN, str(self.group)) if self.group else ()
        numbers = (str(self.port), str(MILLISECONDS), cpu)
        command: list[str | Path] = [*join, program, mode, self.addresses[family], *numbers]
        return float(namespaces.run(self.client, command, PATIENCE))

    def refusal(self, family: int) -> float:
        """The slowest of many refusals by a port that the Service lacks, in ms. Raises ``LabError``."""
        join = (*cgroup.JOIN, str(self.group)) if self.group else ()
        numbers = (str(self.port + 1), str(_REFUSALS))
        command = [*join, sys.executable, "-c", _TO_BE_REFUSED, self.addresses[family], *numbers]
        times = list(map(float, namespaces.run(self.client, command, PATIENCE).split()))
        if len(times) < _REFUSALS:
            raise LabError(f"only {len(times)} of {_REFUSALS} connections were refused")
        return max(times)


_REFUSALS = 50
_TO_BE_REFUSED = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
for _ in range(int(sys.argv[3])):
    with socket.socket(family) as client:
        client.settimeout(1)
        start = time.perf_counter()
        try:
            client.connect((sys.argv[1], int(sys.argv[2])))
        except ConnectionRefusedError:
            print((time.perf_counter() - start) * 1000)
"""
"""Prints how many milliseconds each refusal took."""

NFTABLES = f"nftables with verdict maps, {NFT:,} Services"
MODES = ("requests", "connections")
WAYS = {"ClusterIP": "--socket-services", "ClusterIP per packet": "--no-socket-services"}
"""How a Service is reached, and the agent's flag that makes it so for all Pods of a node."""


def _with(what: str, services: int) -> str:
    return f"{what}, {services:,} Service{'s' if services > 1 else ''}"


def _beside(what: str) -> str:
    return f"Pod to Pod beside {what}"


def _comparisons() -> list[Comparison]:
    found = []
    for what, requests, connections in (("ClusterIP", 0.99, 0.97), ("ClusterIP per packet", 0.93, 0.93)):
        few, many = _with(what, FEW), _with(what, MANY)
        for variant in (few, many):
            found.append(Comparison(variant, _beside(variant), "requests", requests))
            found.append(Comparison(variant, _beside(variant), "connections", connections))
        found.append(Comparison(many, few, "connections", 0.97))
        found.append(Comparison(many, NFTABLES, "connections", 1.2))
    return found


def measure(folder: Path, rounds: int, tick: Callable[[str], None]) -> list[Figure]:
    """Each round runs all variants one after the other, forth and back in turn: none is always the first.

    Raises ``LabError`` or ``KernelError`` when a variant cannot be set up.
    """
    program = compile_program()
    cpu = str(max(os.sched_getaffinity(0)))
    samples: Samples = {}
    refusals: Refusals = {}
    with ExitStack() as stack:
        tick("setting up")
        ways = _build(folder, stack, program, cpu)
        cases = [(v, m, f) for m in MODES for f in range(len(FAMILIES)) for v in ways]
        for number in range(rounds):
            tick(f"round {number + 1} of {rounds}")
            for variant, mode, family in cases if number % 2 == 0 else reversed(cases):
                rate = ways[variant].rate(program, mode, family, cpu)
                samples.setdefault((variant, mode, FAMILIES[family]), []).append(rate)
            for what in WAYS:
                for family, name in enumerate(FAMILIES):
                    slowest = ways[_with(what, MANY)].refusal(family)
                    refusals.setdefault((what, name), []).append(slowest)
    return [*figures(samples), *_refused(refusals)]


def _refused(refusals: Refusals) -> list[Figure]:
    return [
        Figure("services", f"{what}, slowest refusal, {family}", "ms", tuple(values), 5.0, "lower")
        for (what, family), values in refusals.items()
    ]


def figures(samples: Mapping[tuple[str, str, str], Sequence[float]]) -> list[Figure]:
    """The ratios that were promised, then the rates that they come from. Pure."""
    return compare("services", _comparisons(), samples)


def _build(folder: Path, stack: ExitStack, program: Path, cpu: str) -> dict[str, Way]:
    """For each way a node with few and a node with many Services; and one where nftables does it."""
    ways: dict[str, Way] = {}
    for what, flag in WAYS.items():
        made = nodes.cluster(folder / what.replace(" ", "-"), stack, 2, flag)
        for services, node in zip((FEW, MANY), made, strict=True):
            ways |= _tulle(node, _with(what, services), services, stack, program, cpu)
    ways[NFTABLES] = _nftables(folder / "nft", stack, program, cpu)
    return ways


def _tulle(node: Node, name: str, services: int, stack: ExitStack, program: Path, cpu: str) -> dict[str, Way]:
    """Two Pods, and between them the way to a Service and a direct one.

    To another port: what the server remembers of the connections of one way would slow the other down.
    """
    client, _ = node.pod("client")
    server, addresses = node.pod("server")
    for port in (PORT, _DIRECT):
        serve(server, program, cpu, stack, port)
    fill(Datapath(node.bpffs, DatapathSettings()), services, [ends([addresses], int(PORT))])
    virtual = tuple(objects.cluster_ip(0, family) for family in _BOTH)
    return {
        _beside(name): Way(client, node.group, addresses, int(_DIRECT)),
        name: Way(client, node.group, virtual, objects.PORT),
    }


def fill(datapath: Datapath, services: int, first: Sequence[Ends], make: Make = objects.service) -> None:
    """Writes the Service table, as the node's agent would have planned it.

    The first Services have the endpoints ``first``, all others lead to nobody who is there.
    """
    tracker = Tracker(Location("node-1"))
    for number in range(services):
        made = msgspec.convert(make(number, _BOTH), Service)
        key = (made.metadata.namespace, made.metadata.name)
        tracker.service_changed(Change("added", key, None, made))
        for family in _BOTH:
            there = number < len(first)
            found = objects.endpoint_slice(
                number, family, *(first[number][family] if there else endpoints(number, family))
            )
            slice_ = msgspec.convert(found, EndpointSlice)
            tracker.slice_changed(Change("added", (key[0], slice_.metadata.name), None, slice_))
    table = Table(datapath.maps, datapath.contract)
    table.set_cidrs([ip_network(cidr) for cidr in objects.CIDRS.values()])
    table.apply({key: tracker.plan(key).ports for key in tracker.take_dirty()})


def ends(pods: Sequence[Sequence[str]], port: int) -> Ends:
    """Endpoints in Pods with these addresses, IPv4 first."""
    return {f: (list(each), port) for f, each in zip(_BOTH, zip(*pods, strict=True), strict=True)}


def endpoints(number: int, family: Family) -> tuple[list[str], int]:
    """Addresses and port of a Service whose endpoints are not there."""
    first = number * _ENDPOINTS
    return [objects.pod_ip(first + i, family) for i in range(_ENDPOINTS)], 8080


def _nftables(folder: Path, stack: ExitStack, program: Path, cpu: str) -> Way:
    """Two Pods on the kernel's own routes, and Services by nftables on their node."""
    node, pair = baselines.routed_pods(folder, stack)
    for family, server in zip(_BOTH, pair.addresses, strict=True):
        others = [endpoints(number, family) for number in range(1, NFT)]
        to = [[(server, int(PORT))], *([(a, port) for a in each] for each, port in others)]
        load(node, verdict_maps.ruleset(family, to))
    serve(pair.server, program, cpu, stack)
    return Way(pair.client, None, tuple(objects.cluster_ip(0, f) for f in _BOTH), objects.PORT)


def load(node: Path, rules: str) -> None:
    """Raises ``LabError`` with what nftables said."""
    with netns.entered(node):
        done = subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"the nftables baseline cannot be set up: {done.stderr.strip()[:2000]}")
