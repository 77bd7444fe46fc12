"""The Service table as it was found in the kernel, as values to show and to compare. Pure.

The kernel knows no names: a port of a Service is an index there, and the frontends that lead to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from tulle.pod_to_service.entries import Entries
from tulle.pod_to_service.found import Found, Port
from tulle.pod_to_service.plan import Backend, Frontend, OnEmpty


@dataclass(frozen=True, slots=True)
class KernelPort:
    """What one index stands for; the fields are those of a ``PortPlan``.

    ``complete`` is false where frontends lead to an index that has no set of backends: to nothing.
    ``hits``: how often a backend was chosen.
    """

    index: int
    frontends: tuple[Frontend, ...]
    complete: bool = False
    backends: tuple[Backend, ...] = ()
    serving: tuple[Backend, ...] = ()
    affinity: int = 0
    on_empty: OnEmpty = OnEmpty.REJECT
    hits: int = 0


@dataclass(frozen=True, slots=True)
class KernelTable:
    """``ports`` by index, and ``indices`` by frontend.

    ``refusing`` are the addresses whose other ports are refused (S-29), ``own`` those that are left to the
    node because it has them itself.
    """

    ports: Mapping[int, KernelPort]
    indices: Mapping[Frontend, int]
    refusing: frozenset[bytes]
    own: frozenset[bytes]


def indices_in(found: Found, entries: Entries) -> set[int]:
    """The indices that frontends lead to."""
    numbers = {entries.read_number(value) for value in found.frontends.values()}
    return {number for number in numbers if number >= entries.first}


def observe(found: Found, entries: Entries, hits: Mapping[int, int]) -> KernelTable:
    """``hits`` by index."""
    indices: dict[Frontend, int] = {}
    by_index: defaultdict[int, list[Frontend]] = defaultdict(list)
    special: dict[int, set[bytes]] = {entries.no_port: set(), entries.of_node: set()}
    for key, value in found.frontends.items():
        frontend, index = entries.read_frontend(key), entries.read_number(value)
        if index < entries.first:
            special[index].add(frontend.address)
        else:
            indices[frontend] = index
            by_index[index].append(frontend)
    ports = {
        index: _port(index, tuple(sorted(frontends)), found.ports.get(index), entries, hits.get(index, 0))
        for index, frontends in by_index.items()
    }
    refusing, own = frozenset(special[entries.no_port]), frozenset(special[entries.of_node])
    return KernelTable(ports, indices, refusing, own)


def _port(
    index: int, frontends: tuple[Frontend, ...], port: Port | None, entries: Entries, hits: int
) -> KernelPort:
    if port is None:
        return KernelPort(index, frontends, hits=hits)
    content = port.content
    return KernelPort(
        index=index,
        frontends=frontends,
        complete=True,
        backends=tuple(entries.read_backends(content.backends)),
        serving=tuple(entries.read_backends(content.serving)),
        affinity=content.affinity,
        on_empty=entries.read_on_empty(content.on_empty),
        hits=hits,
    )
