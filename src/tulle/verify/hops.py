"""Where is it broken? What the failed checks have in common that those which hold have not. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tulle.verify.judge import Outcome
from tulle.verify.plan import Check

PROTOCOLS = {
    frozenset({"tcp", "tcp-large"}): "TCP",
    frozenset({"udp", "udp-large"}): "UDP",
    frozenset({"icmp"}): "ICMP",
    frozenset({"tcp-large", "udp-large"}): "payloads above the MTU",
    frozenset({"tcp-large"}): "TCP payloads above the MTU",
    frozenset({"udp-large"}): "UDP payloads above the MTU",
}


class Kind(NamedTuple):
    """What a path may treat differently from the rest."""

    family: str
    protocol: str
    from_host: bool


@dataclass
class Tally:
    """How many checks were made, and how many reached something."""

    made: int = 0
    reached: int = 0


Scope = tuple[str, ...]
"""A part of the way, such as ``("from", "node-1/a")`` or ``("between", "node-1", "node-2")``."""

BETWEEN_NODES: Scope = ("between nodes",)


class Pattern:
    """What gets through each part of the way, summed up so that a failure is explained in constant time."""

    def __init__(self) -> None:
        self._scopes: dict[Scope, dict[Kind, Tally]] = defaultdict(lambda: defaultdict(Tally))

    def add(self, result: Outcome) -> None:
        check = result.check
        kind = Kind(check.family, check.protocol, check.source.host_network)
        for scope in _scopes(check):
            tally = self._scopes[scope][kind]
            tally.made += 1
            tally.reached += result.reached

    def dead(self, scope: Scope, check: Check) -> bool:
        """Checks of this family and protocol were made here, and none got through."""
        tally = self._sum(scope, check)
        return tally.made > 0 and tally.reached == 0

    def alive(self, scope: Scope, check: Check) -> bool:
        """Some check of this family and protocol got through."""
        return self._sum(scope, check).reached > 0

    def _sum(self, scope: Scope, check: Check) -> Tally:
        flavour = (check.family, check.protocol)
        alike = [tally for kind, tally in self._scopes[scope].items() if kind[:2] == flavour]
        return Tally(sum(tally.made for tally in alike), sum(tally.reached for tally in alike))

    def restriction(self, scope: Scope, check: Check) -> str:
        """What in a scope fails in this way only: which protocols, which family, and from where."""
        kinds = self._scopes[scope]
        families, origins = {kind.family for kind in kinds}, {kind.from_host for kind in kinds}
        family, origin = check.family, check.source.host_network
        failing = self._failing(scope, family, origin)
        words: list[str] = []
        if any(self._failing(scope, other, origin) != failing for other in families):
            words.append(family)
        if failing < {kind.protocol for kind in kinds}:
            words.append(PROTOCOLS.get(failing) or " and ".join(sorted(failing)))
        if any(self._failing(scope, family, other) != failing for other in origins):
            words.append("from the host network" if origin else "from Pods")
        return f" (only {', '.join(words)})" if words else ""

    def _failing(self, scope: Scope, family: str, from_host: bool) -> frozenset[str]:
        """The protocols of which some check fails."""
        return frozenset(
            kind.protocol
            for kind, tally in self._scopes[scope].items()
            if (kind.family, kind.from_host) == (family, from_host) and tally.reached < tally.made
        )


def _scopes(check: Check) -> list[Scope]:
    """A Pod's own link is judged by what stays on its node, as that needs no link between nodes."""
    source, target = check.source, check.target
    if source.node == target.node:
        return [("from", str(source)), ("to", str(target)), ("on", source.node)]
    return [("between", source.node, target.node), ("at", source.node), ("at", target.node), BETWEEN_NODES]


def find(results: Iterable[Outcome], addresses: Mapping[str, str]) -> dict[int, str]:
    """For each failed check, by its position: what is broken. ``addresses`` says whose an address is."""
    outcomes = list(results)
    pattern = Pattern()
    for result in outcomes:
        if result.ran and result.check.source is not result.check.target:
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
    text, scope = _segment(result.check, pattern)
    return text + pattern.restriction(scope, result.check)


def _misdirected(result: Outcome, addresses: Mapping[str, str]) -> str:
    check = result.check
    if result.peer is None or not result.sources or result.peer in result.sources:
        return f"{check.address} leads to another Pod"
    return nat(result.peer, addresses)


def nat(peer: str, addresses: Mapping[str, str]) -> str:
    """Who puts ``peer`` in the place of a Pod's own address."""
    owner = addresses.get(peer)
    if owner is None:
        return f"NAT on the way: the source becomes {peer}, which is no node's and no Pod's address"
    return f"NAT at {owner}: the source becomes {peer}"


def _segment(check: Check, pattern: Pattern) -> tuple[str, Scope]:
    """The part of the way that nothing else gets through either: first on the nodes, then between them."""
    source, target = check.source, check.target
    for node in (source.node, target.node):
        if pattern.dead(("on", node), check):
            return f"inside node {node}", ("on", node)
    leaves = not pattern.dead(("from", str(source)), check)
    arrives = not pattern.dead(("to", str(target)), check)
    if arrives and not leaves:
        return f"{source} → {source.node}", ("from", str(source))
    if leaves and not arrives:
        return f"{target.node} → {target}", ("to", str(target))
    if source.node == target.node:
        return f"{source} → {source.node} → {target}", ("on", source.node)
    return _link(check, pattern)


def _link(check: Check, pattern: Pattern) -> tuple[str, Scope]:
    """One node cut off while others still reach each other; else the pair, in one direction or in both."""
    source, target = check.source.node, check.target.node
    for node in (source, target):
        if pattern.dead(("at", node), check) and pattern.alive(BETWEEN_NODES, check):
            return f"{node} ↔ all other nodes", ("at", node)
    if pattern.dead(("between", target, source), check):
        return " ↔ ".join(sorted((source, target))), ("between", source, target)
    return f"{source} → {target}", ("between", source, target)
