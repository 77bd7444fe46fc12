"""Counters in Prometheus' text format, as cheap as adding to a list's element.

Code that counts often keeps the :class:`Cell` of its labels; everything runs on one event loop, so there are
no locks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

SECONDS = tuple(0.00025 * 2**n for n in range(16))
"""Bounds for durations, 0.25 ms to 8.2 s, as CoreDNS has them."""

SIZES = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000)
"""Bounds for message sizes in bytes, as CoreDNS has them."""


class Cell:
    """One number: ``cell.value += 1``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Buckets:
    """One histogram: how many observations are at most each bound, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts ``value`` once."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Counter:
    """A metric with labels whose values only grow; ``read`` gives the value when it is asked for."""

    kind = "counter"

    def __init__(
        self,
        registry: Registry,
        name: str,
        help: str,
        labels: Sequence[str] = (),
        read: Callable[[], float] | None = None,
    ) -> None:
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._cells: dict[tuple[str, ...], Cell] = {}
        self._read = read
        registry.add(self)

    def cell(self, *values: str) -> Cell:
        """The number for these label values, in the order of ``labels``; made when missing."""
        found = self._cells.get(values)
        if found is None:
            if len(values) != len(self.labels):
                raise ValueError(f"{self.name}: must have the labels {self.labels}, not {values}")
            found = self._cells[values] = Cell()
        return found

    def inc(self, *values: str, by: float = 1) -> None:
        """Adds ``by`` to the number for these label values."""
        self.cell(*values).value += by

    def set(self, value: float, *values: str) -> None:
        """Sets the number for these label values; of a counter, as somebody else has counted it."""
        self.cell(*values).value = value

    def lines(self) -> Iterator[str]:
        """The samples."""
        if self._read is not None:
            self.set(self._read())
        for values, cell in self._cells.items():
            yield f"{self.name}{_braces(self.labels, values)} {_number(cell.value)}"


class Gauge(Counter):
    """A metric whose values go up and down."""

    kind = "gauge"


class Histogram:
    """A metric with labels and buckets."""

    kind = "histogram"

    def __init__(
        self,
        registry: Registry,
        name: str,
        help: str,
        labels: Sequence[str] = (),
        bounds: Sequence[float] = SECONDS,
    ) -> None:
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._bounds = bounds
        self._cells: dict[tuple[str, ...], Buckets] = {}
        registry.add(self)

    def cell(self, *values: str) -> Buckets:
        """The buckets for these label values; made when missing."""
        found = self._cells.get(values)
        if found is None:
            found = self._cells[values] = Buckets(self._bounds)
        return found

    def observe(self, value: float, *values: str) -> None:
        """Counts ``value`` once for these label values."""
        self.cell(*values).observe(value)

    def lines(self) -> Iterator[str]:
        """The samples; buckets are cumulative."""
        names = (*self.labels, "le")
        for values, cell in self._cells.items():
            total = 0
            for bound, count in zip((*cell.bounds, float("inf")), cell.counts, strict=True):
                total += count
                yield f"{self.name}_bucket{_braces(names, (*values, _number(bound)))} {total}"
            own = _braces(self.labels, values)
            yield f"{self.name}_sum{own} {_number(cell.sum)}"
            yield f"{self.name}_count{own} {total}"


class Registry:
    """All metrics of the process."""

    def __init__(self) -> None:
        self._metrics: list[Counter | Histogram] = []

    def add(self, metric: Counter | Histogram) -> None:
        """Called by each metric when it is made; ValueError for a name that is taken."""
        if any(metric.name == other.name for other in self._metrics):
            raise ValueError(f"{metric.name}: there is a metric of that name already")
        self._metrics.append(metric)

    def text(self) -> str:
        """What /metrics answers with (text format 0.0.4)."""
        lines: list[str] = []
        for metric in self._metrics:
            lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}")
            lines += metric.lines()
        return "\n".join(lines) + "\n"


def _braces(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(value)
