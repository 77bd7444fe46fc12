"""Rings: balanced, the same on every node, and nearly the same when a backend goes."""

from __future__ import annotations

import struct
from random import Random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.pod_to_service.regions import Region, Regions
from tulle.pod_to_service.ring import SIZES, make_ring, ring_size

backends = st.sets(st.binary(min_size=20, max_size=20), min_size=2, max_size=40).map(
    lambda found: tuple(sorted(found))
)


def slots(ring: bytes) -> tuple[int, ...]:
    return struct.unpack(f"={len(ring) // 2}H", ring)


@pytest.mark.parametrize(
    ("count", "size"),
    [(0, 0), (1, 0), (2, 251), (5, 251), (6, 1009), (80, 4093), (300, 16381), (2047, 16381), (2048, 0)],
)
def test_how_large_a_ring_is(count: int, size: int) -> None:
    assert ring_size(count) == size


def test_the_sizes_are_primes() -> None:
    """Else the order of a backend would miss slots."""
    assert all(size % divisor for size in SIZES for divisor in range(2, size))


@given(backends)
def test_all_have_the_same_share(chosen: tuple[bytes, ...]) -> None:
    """But for one slot, which is at most 2 in 100 of a share."""
    ring = slots(make_ring(chosen))
    counts = [ring.count(index) for index in range(len(chosen))]
    assert sum(counts) == ring_size(len(chosen)) and max(counts) - min(counts) <= 1
    assert min(counts) >= 50


@pytest.mark.parametrize("count", [3, 5, 20, 40])
def test_who_stays_keeps_most_of_its_slots(count: int) -> None:
    """In the mean of many rings; of a single small one, a quarter of the slots may move, or more."""
    random = Random(count)
    moved = []
    for _ in range(100):
        chosen = tuple(sorted(random.randbytes(20) for _ in range(count)))
        gone = random.choice(chosen)
        rest = tuple(backend for backend in chosen if backend != gone)
        pairs = zip(slots(make_ring(chosen)), slots(make_ring(rest)), strict=True)
        kept = [(chosen[before], rest[after]) for before, after in pairs if chosen[before] != gone]
        moved.append(sum(before != after for before, after in kept) / len(kept))
    assert mean(moved) <= 0.05


def test_a_ring_is_the_same_on_every_node_for_ever() -> None:
    """Nodes with another release choose alike, too, while they are upgraded."""
    chosen = tuple(bytes([n]) * 20 for n in range(3))
    assert slots(make_ring(chosen))[:20] == FIRST


FIRST = (2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 1, 1, 2, 1, 1, 2, 1, 2, 2, 1)


regions = st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=60)


@given(regions)
def test_regions_never_overlap_and_come_back_whole(steps: list[tuple[bool, int]]) -> None:
    free, taken = Regions(200), list[Region]()
    for gives, length in steps:
        if gives and taken:
            free.give(taken.pop(length % len(taken)))
        elif region := free.take(length):
            assert region.length == length and region.end <= 200
            assert all(region.end <= other.start or other.end <= region.start for other in taken)
            taken.append(region)
        left = Regions(200, taken)
        assert left.take(200 - sum(r.length for r in taken) + 1) is None
    for region in taken:
        free.give(region)
    assert free.take(200) == Region(0, 200)


def test_regions_around_those_that_are_used() -> None:
    free = Regions(10, [Region(7, 2), Region(2, 3)])
    assert [free.take(2) for _ in range(4)] == [Region(0, 2), Region(5, 2), None, None]
    assert free.take(1) == Region(9, 1)
