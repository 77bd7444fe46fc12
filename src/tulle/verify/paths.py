"""Which ways from Pod to Pod are broken, without any Service. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tulle.verify.judge import Outcome
from tulle.verify.plan import MAIN

_Kind = tuple[str, str, str]
"""From whom, in which family and by which protocol."""


class Paths:
    """``broken`` says what is broken where a check failed, by its position in ``outcomes``."""

    def __init__(self, outcomes: Sequence[Outcome], broken: Mapping[int, str]) -> None:
        self._between: dict[tuple[str, str, str, str], str] = {}
        ways: dict[_Kind, list[str]] = defaultdict(list)
        to_nodes: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
        for number, result in enumerate(outcomes):
            check = result.check
            if check.container == MAIN:
                source, target = str(check.source), str(check.target)
                hop = "" if result.reached else broken.get(number, "")
                self._between[source, target, check.family, check.protocol] = hop
                ways[source, check.family, check.protocol].append(hop)
                to_nodes[source, check.target.node, check.family, check.protocol].append(hop)
        self._to_nodes = {kind: found[0] for kind, found in to_nodes.items() if all(found)}
        self._cut_off = {kind: found[0] for kind, found in ways.items() if all(found)}

    def between(self, source: str, target: str, family: str, protocol: str) -> str:
        """What is broken on the way, or nothing."""
        return self._between.get((source, target, family, protocol), "")

    def on(self, source: str, target: str) -> str:
        """What is broken on the way in any family or protocol: a tunnel may carry one by another."""
        found = (hop for key, hop in self._between.items() if key[:2] == (source, target))
        return next(filter(None, found), "")

    def to_node(self, source: str, node: str, family: str, protocol: str) -> str:
        """What is broken if ``source`` reaches nobody who is on that node."""
        return self._to_nodes.get((source, node, family, protocol), "")

    def cut_off(self, source: str, family: str, protocol: str) -> str:
        """What is broken if ``source`` reaches nobody at all; without a protocol, by whichever."""
        if protocol:
            return self._cut_off.get((source, family, protocol), "")
        return next((hop for kind, hop in self._cut_off.items() if kind[0] == source), "")
