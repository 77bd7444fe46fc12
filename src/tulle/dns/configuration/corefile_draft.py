"""A server block of a Corefile while its lines are read."""

from __future__ import annotations

from dataclasses import dataclass, field

from tulle.dns.configuration.config import (
    CachePlan,
    Cluster,
    Endpoint,
    Forward,
    Hosts,
    Problem,
    Rewrite,
    Scope,
)
from tulle.dns.configuration.corefile_syntax import Line


@dataclass
class Draft:
    """A scope while its lines are read. Without ``cache`` and ``loadbalance`` in a block there is none."""

    zones: tuple[bytes, ...]
    system: tuple[Endpoint, ...]
    forwards: list[Forward] = field(default_factory=list)
    cache: CachePlan | None = None
    hosts: Hosts | None = None
    rewrites: list[Rewrite] = field(default_factory=list)
    cluster: Cluster | None = None
    log: bool = False
    loadbalance: bool = False
    problems: list[Problem] = field(default_factory=list)

    def scope(self, zone: bytes) -> Scope:
        """The same for each zone of the block."""
        return Scope(
            zone,
            tuple(self.forwards),
            self.cache,
            self.hosts,
            tuple(self.rewrites),
            self.cluster,
            self.log,
            self.loadbalance,
        )

    def unknown(self, line: Line, plugin: str) -> None:
        """An option that is not supported is reported; the plugin works without it."""
        self.problems.append(line.problem(f"{plugin}: option {line.words[0]!r} is not supported; left out"))
