"""Which nodes' addresses and Pod CIDRs stand in each other's way. Pure."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field

from tulle.model.address import Network


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A prefix and the node that has it."""

    first: tuple[int, bytes]
    last: tuple[int, bytes] = field(compare=False)
    prefix: Network = field(compare=False)
    node: str = field(compare=False)


def _claim(prefix: Network, node: str = "") -> Claim:
    ends = prefix.network_address, prefix.broadcast_address
    first, last = ((end.version, end.packed) for end in ends)
    return Claim(first, last, prefix, node)


class Claims:
    """Prefixes that are equal or disjoint, in order: one that overlaps another is beside it."""

    def __init__(self) -> None:
        self._sorted: list[Claim] = []

    def overlapping(self, prefix: Network) -> Claim | None:
        """One that shares addresses with ``prefix``: of those that begin before its end, the last."""
        wanted = _claim(prefix)
        place = bisect_right(self._sorted, wanted.last, key=lambda claim: claim.first)
        before = self._sorted[place - 1] if place else None
        return before if before and before.last >= wanted.first else None

    def add(self, prefix: Network, node: str) -> None:
        insort(self._sorted, _claim(prefix, node))
