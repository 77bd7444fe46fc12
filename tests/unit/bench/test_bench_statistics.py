"""Figures of the benchmark: medians, targets, percentiles."""

from __future__ import annotations

import pytest
from bench.statistics import Figure, percentile, ratios


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([10, 30], [20, 20]) == (0.5, 1.5)
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


@pytest.mark.parametrize(
    ("better", "target", "met"),
    [("higher", 3.0, True), ("higher", 3.1, False), ("lower", 3.0, True), ("lower", 2.9, False)],
)
def test_the_median_is_held_against_the_target(better: str, target: float, met: bool) -> None:
    figure = Figure("group", "name", "×", (9.0, 1.0, 3.0), target, better)  # type: ignore[arg-type]
    assert (figure.low, figure.median, figure.high) == (1.0, 3.0, 9.0)
    assert figure.met is met


def test_a_figure_without_a_target_is_neither_met_nor_missed() -> None:
    assert Figure("group", "name", "ms", (1.0,)).met is None


def test_multiples_of_the_target_grow_with_what_is_better() -> None:
    assert Figure("group", "name", "1/s", (1600.0,), 800.0).of_target(1600.0) == 2.0
    assert Figure("group", "name", "ms", (5.0,), 10.0, "lower").of_target(5.0) == 2.0


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_values_that_were_measured(share: float, expected: int) -> None:
    assert percentile(range(100, 0, -1), share) == expected
