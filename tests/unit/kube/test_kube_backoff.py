from __future__ import annotations

from tulle.kube.backoff import Backoff


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def bounds(count: int, clock: Clock, backoff: Backoff) -> list[float]:
    """The upper bound of each of ``count`` attempts that fail at once."""
    delays = []
    for _ in range(count):
        delays.append(backoff.next())
        clock.now += delays[-1]
    return delays


def test_the_bound_doubles_up_to_the_cap() -> None:
    clock = Clock()
    backoff = Backoff(base=1, cap=6, uniform=lambda low, high: high, clock=clock)
    assert bounds(5, clock, backoff) == [1, 2, 4, 6, 6]


def test_the_jitter_is_full() -> None:
    clock = Clock()
    backoff = Backoff(base=1, cap=6, uniform=lambda low, high: low, clock=clock)
    assert bounds(3, clock, backoff) == [0, 0, 0]


def test_an_attempt_that_held_starts_the_bound_again() -> None:
    clock = Clock()
    backoff = Backoff(base=1, cap=6, reset_after=20, uniform=lambda low, high: high, clock=clock)
    bounds(4, clock, backoff)
    clock.now += 19
    assert backoff.next() == 6
    clock.now += 6 + 20
    assert backoff.next() == 1
