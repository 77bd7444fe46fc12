"""Where is it broken? What the failed checks have in common that those which hold have not. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tulle.verify.judge import Outcome
from tulle.verify.plan import Place
from tulle.verify.statements import FAMILIES

ONLY_PROTOCOLS = {
    frozenset({"tcp", "tcp-large"}): "TCP only",
    frozenset({"udp", "udp-large"}): "UDP only",
    frozenset({"icmp"}): "ICMP only",
    frozenset({"tcp-large", "udp-large"}): "only payloads above the MTU",
    frozenset({"tcp-large"}): "only TCP payloads above the MTU",
    frozenset({"udp-large"}): "only UDP payloads above the MTU",
}

Flavour = tuple[str, str]
"""Family and protocol: a path may work for one and fail for another."""


@dataclass
class Tally:
    """How many checks of a group were made, and how many reached something."""

    made: int = 0
    reached: int = 0

    def add(self, result: Outcome) -> None:
        self.made += 1
        self.reached += result.reached

    @property
    def dead(self) -> bool:
        return self.made > 0 and self.reached == 0

    @property
    def broken(self) -> bool:
        return self.reached < self.made


@dataclass
class Pattern:
    """What holds and what fails, summed up so that each failure is explained in constant time."""

    from_pod: dict[tuple[Place, Flavour], Tally] = field(default_factory=lambda: defaultdict(Tally))
    to_pod: dict[tuple[Place, Flavour], Tally] = field(default_factory=lambda: defaultdict(Tally))
    link: dict[tuple[str, str, Flavour], Tally] = field(default_factory=lambda: defaultdict(Tally))
    at_node: dict[tuple[str, Flavour], Tally] = field(default_factory=lambda: defaultdict(Tally))
    everywhere: dict[Flavour, Tally] = field(default_factory=lambda: defaultdict(Tally))
    kinds: dict[tuple[str, str], dict[tuple[bool, Flavour], Tally]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Tally))
    )

    def add(self, result: Outcome) -> None:
        """``from_pod`` and ``to_pod`` count what stays on the node: it needs no link between nodes."""
        check = result.check
        flavour = (check.family, check.protocol)
        source, target = check.source, check.target
        if source.node == target.node:
            self.from_pod[source, flavour].add(result)
            self.to_pod[target, flavour].add(result)
        else:
            self.link[source.node, target.node, flavour].add(result)
            self.at_node[source.node, flavour].add(result)
            self.at_node[target.node, flavour].add(result)
            self.everywhere[flavour].add(result)
        self.kinds[source.node, target.node][source.host_network, flavour].add(result)

    def cut_off(self, node: str, flavour: Flavour) -> bool:
        """Nothing gets to or from ``node`` on any link, while other nodes still reach each other."""
        return self.at_node[node, flavour].dead and self.everywhere[flavour].reached > 0


def find(results: Iterable[Outcome], addresses: Mapping[str, str]) -> dict[int, str]:
    """For each failed check, by its position: what is broken. ``addresses`` says whose an address is."""
    outcomes = list(results)
    pattern = Pattern()
    for result in outcomes:
        if result.ran:
            pattern.add(result)
    return {
        number: _hop(result, pattern, addresses) for number, result in enumerate(outcomes) if not result.ok
    }


def _hop(result: Outcome, pattern: Pattern, addresses: Mapping[str, str]) -> str:
    source, target = result.check.source, result.check.target
    if not result.ran:
        return f"exec into {source}"
    if source is target:
        return f"inside {source}"
    if result.reached:
        return _misdirected(result, addresses)
    return _segment(result, pattern) + _restriction(pattern.kinds[source.node, target.node])


def _misdirected(result: Outcome, addresses: Mapping[str, str]) -> str:
    check = result.check
    if result.peer is None or not check.sources or result.peer in check.sources:
        return f"{check.address} leads to another Pod"
    owner = addresses.get(result.peer)
    if owner is None:
        return f"NAT on the way: the source becomes {result.peer}, which is no node's and no Pod's address"
    return f"NAT at {owner}: the source becomes {result.peer}"


def _segment(result: Outcome, pattern: Pattern) -> str:
    """The first of the parts of the way that nothing else gets through either."""
    check = result.check
    source, target, flavour = check.source, check.target, (check.family, check.protocol)
    leaves = not pattern.from_pod[source, flavour].dead
    arrives = not pattern.to_pod[target, flavour].dead
    if arrives and not leaves:
        return f"{source} → {source.node}"
    if leaves and not arrives:
        return f"{target.node} → {target}"
    if source.node == target.node:
        return f"{source} → {source.node} → {target}"
    return _link(source.node, target.node, flavour, pattern)


def _link(source: str, target: str, flavour: Flavour, pattern: Pattern) -> str:
    """One node cut off from all others, else the pair, in one direction or both."""
    for node in (source, target):
        if pattern.cut_off(node, flavour):
            return f"{node} ↔ all other nodes"
    back = pattern.link[target, source, flavour]
    return f"{source} {'↔' if back.broken else '→'} {target}"


def _restriction(kinds: Mapping[tuple[bool, Flavour], Tally]) -> str:
    """What the failures between two nodes have in common that the rest of the traffic there has not."""
    failing = {kind for kind, tally in kinds.items() if tally.broken}
    words = []
    families = {family for _, (family, _) in failing}
    if families < {family for _, (family, _) in kinds}:
        words += [f"{family} only" for family in FAMILIES if family in families]
    protocols = frozenset(protocol for _, (_, protocol) in failing)
    words += [ONLY_PROTOCOLS[protocols]] if protocols in ONLY_PROTOCOLS else []
    origins = {host for host, _ in failing}
    if origins < {host for host, _ in kinds}:
        words.append("only from the host network" if True in origins else "only from Pods")
    return f" ({', '.join(words)})" if words else ""
