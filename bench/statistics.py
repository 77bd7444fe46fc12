"""What many rounds of one measurement come to. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

Better = Literal["higher", "lower"]


class Figure(msgspec.Struct, frozen=True):
    """One measured quantity: ``values`` holds one value per round, in ``unit``.

    ``target`` is what was promised, as a bound on the median; ``None`` for what is only reported.
    """

    group: str
    name: str
    unit: str
    values: tuple[float, ...]
    target: float | None = None
    better: Better = "higher"

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the target; ``None`` without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.better == "higher" else self.median <= self.target

    def of_target(self, value: float) -> float:
        """``value`` as a multiple of the target, above 1 when it is better. Needs a target above 0."""
        assert self.target, f"{self.name} has no target"
        return value / self.target if self.better == "higher" else self.target / value


def ratios(ours: Sequence[float], baseline: Sequence[float]) -> tuple[float, ...]:
    """Round by round, so that what slows a whole round down cancels out.

    Raises ``ValueError`` when the two have not been measured in the same rounds.
    """
    return tuple(a / b for a, b in zip(ours, baseline, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` (0 to 1) of them do not exceed (nearest rank)."""
    ranked = sorted(values)
    rank = -(-len(ranked) * share // 1)
    return ranked[max(0, int(rank) - 1)]
