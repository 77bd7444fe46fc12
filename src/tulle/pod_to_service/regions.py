"""Which parts of a long array are free. Pure bookkeeping."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple


class Region(NamedTuple):
    """In entries of the array."""

    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


class Regions:
    """``size`` entries, of which ``used`` are somebody's."""

    def __init__(self, size: int, used: Iterable[Region] = ()) -> None:
        self._free: list[Region] = []  # in order, never two beside each other
        end = 0
        for region in sorted(used):
            if region.start > end:
                self._free.append(Region(end, region.start - end))
            end = max(end, region.end)
        if size > end:
            self._free.append(Region(end, size - end))

    def take(self, length: int) -> Region | None:
        """The first that fits; None where nothing does."""
        for place, free in enumerate(self._free):
            if free.length > length:
                self._free[place] = Region(free.start + length, free.length - length)
                return Region(free.start, length)
            if free.length == length:
                return self._free.pop(place)
        return None

    def give(self, region: Region) -> None:
        """It is free again."""
        place = bisect_left(self._free, region)
        start, end = region.start, region.end
        if place < len(self._free) and self._free[place].start == end:
            end = self._free.pop(place).end
        if place and self._free[place - 1].end == start:
            place -= 1
            start = self._free.pop(place).start
        self._free.insert(place, Region(start, end - start))
