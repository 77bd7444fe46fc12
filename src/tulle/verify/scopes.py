"""From where does it fail: from everywhere, from a node, in one mode, from one Pod? The widest wins. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tulle.verify.findings import Finding
from tulle.verify.plan import OUTSIDE

Key = tuple[str, ...]
"""What fails: any address of Services, one Service, one sentence …"""


class Scope(NamedTuple):
    """Those who ask; an empty field stands for all. ``node`` is where it is asked, ``way`` how the node sees
    it: in packets or at sockets of its own Pods, or from other machines."""

    node: str = ""
    way: str = ""
    source: str = ""

    def __str__(self) -> str:
        if self.source:
            return "from outside" if self.source == OUTSIDE else f"for {self.source}"
        way = f", {self.way}" if self.way else ""
        return (f"on {self.node}" if self.node else "on every node") + way


class Flavour(NamedTuple):
    """What a path may treat differently."""

    family: str
    protocol: str


@dataclass
class Tally:
    """How many findings there are, and how many are good."""

    made: int = 0
    good: int = 0

    @property
    def dead(self) -> bool:
        return self.made > 0 and self.good == 0


class Scopes:
    """Sums up what is good in each scope, so that a failure is placed in constant time."""

    def __init__(
        self, found: Iterable[Finding], keys: Callable[[Finding], Iterable[tuple[Key, bool]]]
    ) -> None:
        """``keys`` gives for a finding what it tells of, and whether that is good."""
        self._tallies: dict[tuple[Scope, Key], dict[Flavour, Tally]] = defaultdict(lambda: defaultdict(Tally))
        for finding in found:
            flavour = Flavour(finding.family, finding.protocol)
            for key, good in keys(finding):
                for scope in _scopes(finding):
                    tally = self._tallies[scope, key][flavour]
                    tally.made += 1
                    tally.good += good

    def widest(self, finding: Finding, *keys: Key) -> tuple[Scope, Key] | None:
        """The widest scope in which nothing of the finding's flavour is good, for the first of ``keys``.

        A node on which all of the first key fails is more telling than a second key that fails everywhere.
        """
        flavour = Flavour(finding.family, finding.protocol)
        for narrow in (False, True):
            for key in keys:
                for scope in _scopes(finding):
                    if bool(scope.source) is narrow and self._tallies[scope, key][flavour].dead:
                        return scope, key
        return None

    def dead(self, scope: Scope, key: Key) -> bool:
        """Nothing at all is good there, whatever the flavour."""
        flavours = self._tallies[scope, key].values()
        return bool(flavours) and all(tally.dead for tally in flavours)

    def restriction(self, scope: Scope, key: Key, flavour: Flavour) -> str:
        """What is dead there is so in this way only."""
        tallies = self._tallies[scope, key]
        dead = {each for each, tally in tallies.items() if tally.dead}
        if dead == set(tallies):
            return ""
        words = []
        same_family = {each for each in tallies if each.family == flavour.family}
        same_protocol = {each for each in tallies if each.protocol == flavour.protocol}
        if not same_protocol <= dead:
            words.append(flavour.family)
        if not same_family <= dead:
            words.append(flavour.protocol.upper())
        return f" (only {' '.join(filter(None, words))})" if any(words) else ""


def _scopes(finding: Finding) -> Iterable[Scope]:
    """From the widest on. Only Pods differ in mode: what is on the host network is at its sockets."""
    source = finding.source
    node = finding.entry or source.node
    if node == OUTSIDE:
        return Scope(), Scope(source=str(source))
    own = "packet by packet" if source.packets else "at sockets"
    way = own if node == source.node else "from other machines"
    return Scope(), Scope(node), Scope(way=way), Scope(node, way), Scope(source=str(source))
