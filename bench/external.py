"""Clients outside to node ports, beside Pod addresses and nftables; the flow table; a VIP that moves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import flow_table, nodes, objects, outside, services, takeover, verdict_maps
from bench.forward import FAMILIES, PORT, Comparison, Samples, compare, compile_program, serve
from bench.outside import HERE, ROUTER, THERE, WIRE, WORLD, Site
from bench.services import MODES, Way
from bench.statistics import Figure
from tulle.lab.spec import Family
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.programs import DatapathSettings

FEW, MANY, NFT = 1, 10_000, 5_000
_DIRECT = "5202"  # where Pods are reached by their own address
_BOTH: tuple[Family, ...] = ("ipv4", "ipv6")
_POD = "Pod address, kernel routes"
_POD_OF_TULLE = "Pod address on a Tulle node"
_NFT, _NFT_THERE, _NFT_VXLAN = "nftables", "nftables and routes", "nftables and VXLAN"
_REQUESTS, _CONNECTIONS = MODES
_HERE, _THERE = "node port, Pod here", "node port, Pod there"

Ways = dict[str, Way]


def _of(what: str, client: str) -> str:
    return f"{what}, from {client}"


def _with(what: str, count: int) -> str:
    return f"{what}, {count:,} Service{'s' if count > 1 else ''}"


def _comparisons() -> Iterator[Comparison]:
    """What was promised is measured on the shortest wire; the same from farther away is only reported."""
    here, there = _with(_HERE, MANY), _with(_THERE, MANY)
    for client in (WIRE, WORLD):
        yield Comparison(_of(here, client), _of(_NFT, client), _CONNECTIONS, 1.3)
        yield Comparison(_of(here, client), _of(_POD, client), _REQUESTS, 0.93)
        yield Comparison(_of(here, client), _of(_POD_OF_TULLE, client), _REQUESTS, 0.93)
    for client in (ROUTER, WORLD):
        yield Comparison(_of(there, client), _of(_NFT_THERE, client), _CONNECTIONS, 1.1)
        yield Comparison(_of(there, client), _of(_NFT_VXLAN, client), _CONNECTIONS, 1.1)
    for mode in (_CONNECTIONS, _REQUESTS):
        yield Comparison(_of(here, WIRE), _of(_with(_HERE, FEW), WIRE), mode, 0.97)
        yield Comparison(_of(there, ROUTER), _of(_with(_THERE, FEW + 1), ROUTER), mode, 0.97)


def measure(folder: Path, rounds: int, tick: Callable[[str], None]) -> list[Figure]:
    """Each round runs all variants one after the other, forth and back in turn: none is always the first.

    Raises ``LabError`` or ``KernelError`` when a variant cannot be set up.
    """
    samples = _rates(folder / "rates", rounds, tick)
    return [
        *figures(samples),
        *flow_table.measure(folder / "flows", rounds, tick),
        *takeover.measure(folder / "takeover", rounds, tick),
    ]


def _rates(folder: Path, rounds: int, tick: Callable[[str], None]) -> Samples:
    program = compile_program()
    cpu = str(max(os.sched_getaffinity(0)))
    samples: Samples = {}
    with ExitStack() as stack:
        tick("setting up")
        ways = _build(folder, stack, program, cpu)
        cases = [(v, m, f) for m in MODES for f in range(len(FAMILIES)) for v in ways]
        for number in range(rounds):
            tick(f"round {number + 1} of {rounds}")
            for variant, mode, family in cases if number % 2 == 0 else reversed(cases):
                rate = ways[variant].rate(program, mode, family, cpu)
                samples.setdefault((variant, mode, FAMILIES[family]), []).append(rate)
    return samples


def figures(samples: Mapping[tuple[str, str, str], Sequence[float]]) -> list[Figure]:
    """The ratios that were promised, then the rates that they come from. Pure."""
    return compare("external", _comparisons(), samples)


def _build(folder: Path, stack: ExitStack, program: Path, cpu: str) -> Ways:
    """All variants side by side; those that are not being measured are idle."""
    ways: Ways = {}
    for site in (outside.alone(folder / "alone", stack), outside.routed(folder / "routed", stack)):
        _serve(site, program, cpu, stack)
        ways |= _to_pods(_POD, site)
    here = outside.alone(folder / "nft", stack)
    there = outside.routed(folder / "nft-routed", stack)
    tunnelled = outside.routed(folder / "nft-vxlan", stack, vxlan=True)
    for site in (here, there, tunnelled):
        _serve(site, program, cpu, stack)
        _translate(site)
    ways |= _to_ports(_NFT, here, HERE) | _to_ports(_NFT, there, HERE)
    ways |= _to_ports(_NFT_THERE, there, THERE) | _to_ports(_NFT_VXLAN, tunnelled, THERE)
    for count in (FEW, MANY):
        ways |= _tulle(folder, stack, program, cpu, count)
    return ways


def _serve(site: Site, program: Path, cpu: str, stack: ExitStack) -> None:
    """Two servers in each Pod: a Pod's answers to one port do not meet what is remembered of the other's."""
    for server in site.servers:
        for port in (PORT, _DIRECT):
            serve(server, program, cpu, stack, port)


def _to_pods(what: str, site: Site) -> Ways:
    """To the Pod behind the entry node: the lab's router knows the way to the other one by itself."""
    return {_of(what, c): Way(path, None, site.pods[HERE], int(_DIRECT)) for c, path in site.clients.items()}


def _to_ports(what: str, site: Site, pod: int) -> Ways:
    """To the node port whose Service has the Pod of that node."""
    port = objects.node_port(pod)
    return {_of(what, c): Way(path, None, site.entry, port) for c, path in site.clients.items()}


def _translate(site: Site) -> None:
    """Node ports by nftables: those of the first Services lead to the Pods, all others to nobody."""
    for family, address, pods in zip(_BOTH, site.entry, zip(*site.pods, strict=True), strict=True):
        ends = [[(pod, int(PORT))] for pod in pods]
        for number in range(len(ends), NFT):
            addresses, port = services.endpoints(number, family)
            ends.append([(each, port) for each in addresses])
        services.load(site.nodes[HERE], verdict_maps.ruleset(family, ends, address))


def _tulle(folder: Path, stack: ExitStack, program: Path, cpu: str, count: int) -> Ways:
    """A node alone on its wire, and two in the lab, with a Service more, whose Pod is on the other one."""
    ways: Ways = {}
    for name, lay, size in (("wire", nodes.one_wire, 1), ("lab", nodes.wires, 2)):
        site, made = outside.tulle(folder / f"{name}-{count}", stack, size, "--routing=native", lay=lay)
        _serve(site, program, cpu, stack)
        first = [services.ends([pod], int(PORT)) for pod in site.pods]
        for node in made:
            datapath = Datapath(node.bpffs, DatapathSettings())
            stack.callback(datapath.close)
            services.fill(datapath, max(count, size), first, objects.load_balanced)
        ways |= _to_ports(_with(_HERE, max(count, size)), site, HERE)
        if size > 1:
            ways |= _to_ports(_with(_THERE, max(count, size)), site, THERE)
        if count == FEW:
            ways |= _to_pods(_POD_OF_TULLE, site)
    return ways
