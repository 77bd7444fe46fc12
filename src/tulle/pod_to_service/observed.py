"""The Service table as it was found in the kernel, as values to show and to compare. Pure.

The kernel knows no names: a port of a Service is an index there, and the frontends that lead to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from tulle.model.address import Network
from tulle.pod_to_service.entries import Entries, LeadsTo
from tulle.pod_to_service.found import Found, Port
from tulle.pod_to_service.plan import Choice, Frontend


@dataclass(frozen=True, slots=True)
class KernelPort:
    """What one index stands for.

    ``choice`` is None where frontends lead to an index that has no set of backends: to nothing.
    ``frontends`` are those that lead here from some side. ``hits``: how often a backend was chosen.
    """

    index: int
    frontends: tuple[Frontend, ...]
    choice: Choice | None = None
    affinity: int = 0
    hits: int = 0


@dataclass(frozen=True, slots=True)
class KernelTable:
    """``ports`` by index; ``leads`` by frontend; ``sources``, who is let in, by guard (S-61).

    ``refusing`` are the addresses whose other ports are refused (S-29), ``refusing_outside`` those that only
    clients outside are refused at, ``own`` those that are left to the node because it has them itself.
    """

    ports: Mapping[int, KernelPort]
    leads: Mapping[Frontend, LeadsTo]
    sources: Mapping[int, frozenset[Network]] = field(default_factory=dict)
    refusing: frozenset[bytes] = frozenset()
    refusing_outside: frozenset[bytes] = frozenset()
    own: frozenset[bytes] = frozenset()


def observe(found: Found, entries: Entries, hits: Mapping[int, int]) -> KernelTable:
    """``hits`` by index."""
    leads: dict[Frontend, LeadsTo] = {}
    by_index: defaultdict[int, dict[Frontend, None]] = defaultdict(dict)
    others: defaultdict[tuple[bool, bool], set[bytes]] = defaultdict(set)
    for key, value in found.frontends.items():
        frontend, lead = entries.read_frontend(key), entries.read_lead(value)
        if not frontend.port:
            others[lead.inside == entries.no_port, lead.outside == entries.no_port].add(frontend.address)
            continue
        leads[frontend] = lead
        for index in (lead.inside, lead.outside):
            by_index[index][frontend] = None
    ports = {
        index: _port(index, tuple(sorted(frontends)), found.ports.get(index), entries, hits.get(index, 0))
        for index, frontends in by_index.items()
    }
    refusing, outside, own = (others[each] for each in ((True, True), (False, True), (False, False)))
    sources = {
        guard: frozenset(entries.read_range(key)[1] for key in keys) for guard, keys in found.ranges.items()
    }
    return KernelTable(ports, leads, sources, frozenset(refusing), frozenset(outside), frozenset(own))


def _port(
    index: int, frontends: tuple[Frontend, ...], port: Port | None, entries: Entries, hits: int
) -> KernelPort:
    if port is None:
        return KernelPort(index, frontends, hits=hits)
    content = port.content
    choice = Choice(
        backends=tuple(entries.read_backends(content.backends)),
        serving=tuple(entries.read_backends(content.serving)),
        on_empty=entries.read_on_empty(content.on_empty),
    )
    return KernelPort(index, frontends, choice, content.affinity, hits)
