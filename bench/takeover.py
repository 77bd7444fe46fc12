"""A load balancer's address moves from one node to another while connections are open.

Its announcement is no part of this: the router is told where the address is. What is measured is whether the
nodes agree on whom a connection belongs to, though only one of them saw it begin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import holding, namespaces, objects, outside, services
from bench.holding import Held
from bench.outside import WORLD, Site
from bench.statistics import Figure
from tulle.lab.spec import Family
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.programs import DatapathSettings

VIPS = ("198.51.100.80", "2001:db8:80::80")
_NODES = 3
_HELD = 300
_PORT = 5203
_SECONDS = 2.0  # that an answer may take

Shares = dict[str, list[float]]
"""Per cent of the connections that go on, by what happened; one value per round."""


def measure(folder: Path, rounds: int, tick: Callable[[str], None]) -> list[Figure]:
    """The address moves from the first node to the second and back; then the first node is cut off."""
    shares: Shares = {}
    with ExitStack() as stack:
        site, made = outside.tulle(folder, stack, _NODES)
        for node, server in zip(made, site.servers, strict=True):
            datapath = Datapath(node.bpffs, DatapathSettings())
            stack.callback(datapath.close)
            services.fill(datapath, 1, [services.ends(site.pods, _PORT)], _balanced)
            holding.serve(server, _PORT, node.host.name[-1], stack)
        entries = [tuple(str(a.ip) for a in node.host.addresses) for node in made]
        for number in range(rounds):
            tick(f"take-over, round {number + 1} of {rounds}")
            for family in range(len(VIPS)):
                _round(site, entries, family, shares)
    return [Figure("external", f"take-over, {what}", "%", tuple(v), 100.0) for what, v in shares.items()]


def _balanced(number: int, families: Sequence[Family]) -> objects.Object:
    return objects.load_balanced(number, families, VIPS)


def _round(site: Site, entries: Sequence[Sequence[str]], family: int, shares: Shares) -> None:
    name = ("IPv4", "IPv6")[family]

    def note(what: str, share: float) -> None:
        shares.setdefault(f"{what}, {name}", []).append(share)

    lead = _Lead(site, family)
    lead.to(entries[0][family])
    with ExitStack() as stack:
        held = Held(site.clients[WORLD], VIPS[family], objects.PORT, _HELD, _SECONDS, stack)
        before = held.ask()
        lead.to(entries[1][family])
        note("connections that go on by another node", 100 * held.ask().total() / _HELD)
        lead.to(entries[0][family])
        note("and by the first one again", 100 * held.ask().total() / _HELD)
        lead.to(entries[1][family])
        with _cut_off(site.clients[outside.ROUTER], "node-1"):
            after = held.ask()
            surviving = _HELD - before["1"]
            note("of those to other nodes, when the first is cut off", 100 * after.total() / surviving)


class _Lead:
    """Where the router sends what goes to the address."""

    def __init__(self, site: Site, family: int) -> None:
        self._router = site.clients[outside.ROUTER]
        self._vip = VIPS[family]

    def to(self, node: str) -> None:
        namespaces.ip(self._router, [f"route replace {self._vip} via {node}"])


def _cut_off(router: Path, node: str) -> ExitStack:
    """The router's end of the node's wire is down within the block."""
    stack = ExitStack()
    namespaces.ip(router, [f"link set {node} down"])
    stack.callback(namespaces.ip, router, [f"link set {node} up"])
    return stack
