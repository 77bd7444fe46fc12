"""Maglev's rings: from a flow's hash to a backend, on every node alike. Pure.

Each backend has an order of its own in which it likes the slots of the ring; in turns, each takes the first
one that is still free (Eisenbud et al., Maglev, NSDI 2016, section 3.4). So all have the same share, but for
one slot. When one goes, those that stay keep their slots but for 2 to 5 in 100, where the ring's size stays.
That is the mean: in some rings of a few backends it is a quarter of the slots or more.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import chain

SIZES = (251, 1009, 4093, 16381)
"""Slots of a ring: primes, so that each order meets all of them."""
_KEPT = 1009  # of these and smaller rings, which are many, the orders are computed once: 2 MB
_SHARE = 50  # slots of each backend at least, where a larger ring is left to take
_LEAST_SHARE = 8  # slots of each backend in the largest ring: with fewer, some have much more than others


def ring_size(backends: int) -> int:
    """In slots; 0 where a ring is of no use: there is no choice, or there are more than 2,047 backends."""
    if backends < 2 or backends * _LEAST_SHARE > SIZES[-1]:
        return 0
    return next((size for size in SIZES if size >= backends * _SHARE), SIZES[-1])


@lru_cache(maxsize=256)
def make_ring(backends: tuple[bytes, ...]) -> bytes:
    """The indices of the backends, which are sorted: 16 bits for each slot, in the order of this machine.

    Empty where ``ring_size`` is 0.
    """
    size = ring_size(len(backends))
    ring = array("H", bytes(2 * size))
    free = bytearray(b"\1" * size)
    turns = [(index, _order(backend, size)) for index, backend in enumerate(backends)] if size else []
    left = size
    while left:
        for index, order in turns[:left]:
            for slot in order:
                if free[slot]:
                    free[slot] = 0
                    ring[slot] = index
                    break
        left -= len(turns[:left])
    return ring.tobytes()


def _order(backend: bytes, size: int) -> Iterator[int]:
    """All slots, in the order in which the backend likes them."""
    digest = blake2b(backend, digest_size=8, key=b"tulle ring").digest()
    first, step = int.from_bytes(digest[:4], "big") % size, int.from_bytes(digest[4:], "big") % (size - 1) + 1
    if size > _KEPT:
        return (slot % size for slot in range(first * step, (first + size) * step, step))
    multiples = _multiples(step, size)
    return chain(multiples[first:], multiples[:first])


@cache
def _multiples(step: int, size: int) -> array[int]:
    return array("H", [slot % size for slot in range(0, size * step, step)])
