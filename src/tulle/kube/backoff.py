"""How long to wait before the next attempt."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class Backoff:
    """Exponential back-off with full jitter: a uniform choice between 0 and a bound that doubles.

    Full jitter spreads the clients of a server that comes back evenly over the whole window. The bound
    starts again at ``base`` when an attempt held for ``reset_after`` seconds. All times are in seconds.
    """

    def __init__(
        self,
        base: float = 0.2,
        cap: float = 15.0,
        reset_after: float = 20.0,
        uniform: Callable[[float, float], float] = random.uniform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = base
        self._cap = cap
        self._reset_after = reset_after
        self._uniform = uniform
        self._clock = clock
        self._bound = base
        self._last = clock()

    def next(self) -> float:
        """Seconds to wait now."""
        now = self._clock()
        if now - self._last >= self._reset_after:
            self._bound = self._base
        delay = self._uniform(0, self._bound)
        self._bound = min(self._cap, self._bound * 2)
        self._last = now + delay
        return delay
