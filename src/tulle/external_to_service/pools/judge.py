"""Which pools can be used, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tulle.external_to_service.pools.ranges import Range, of_network, parse
from tulle.model.address import Address, Network, host_network
from tulle.model.balancing import LoadBalancerPool, PoolSpec

USABLE = "Usable"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What no pool may touch, each with the name of whose it is."""

    nodes: Mapping[Address, str]
    pod_cidrs: Mapping[Network, str]
    service_cidrs: Mapping[Network, str]


class Verdict(NamedTuple):
    """``reason`` is ``Usable`` or says what is wrong in one word; ``message`` is a sentence for users."""

    reason: str
    message: str

    @property
    def usable(self) -> bool:
        """Whether addresses of the pool are given."""
        return self.reason == USABLE


@dataclass(frozen=True, slots=True)
class Pool:
    """``ranges`` has what could be read, also of a pool that is not usable: addresses may be in use there."""

    name: str
    spec: PoolSpec
    ranges: tuple[Range, ...]
    verdict: Verdict

    @property
    def usable(self) -> bool:
        """Whether addresses of it are given."""
        return self.verdict.usable

    def __contains__(self, address: Address) -> bool:
        return any(address in each for each in self.ranges)

    def size(self, version: int) -> int:
        """How many addresses it has of one family."""
        return sum(each.size for each in self.ranges if each.version == version)


def judge(pools: Iterable[LoadBalancerPool], around: Surroundings) -> tuple[Pool, ...]:
    """All of them, by name. Of two that overlap the younger loses, unless the older is wrong itself.

    A pool is usable as a whole or not at all: half a pool would hide the mistake in the other half.
    """
    taken = _taken(around)
    usable: list[Pool] = []
    judged: list[Pool] = []
    for each in sorted(pools, key=lambda pool: pool.metadata.age):
        ranges, flaw = _read(each.spec)
        verdict = flaw or _collision(ranges, taken) or _overlap(ranges, usable) or _praise(ranges)
        pool = Pool(each.metadata.name, each.spec, ranges, verdict)
        judged.append(pool)
        usable += [pool] if pool.usable else []
    return tuple(sorted(judged, key=lambda pool: pool.name))


def _read(spec: PoolSpec) -> tuple[tuple[Range, ...], Verdict | None]:
    """What can be read, and the first thing that is wrong."""
    ranges: list[Range] = []
    flaws: list[Verdict] = []
    if not spec.addresses:
        flaws.append(Verdict("InvalidAddresses", "spec.addresses: at least one CIDR or range is needed"))
    for index, text in enumerate(spec.addresses or ()):
        try:
            found = parse(text)
        except ValueError as error:
            flaws.append(Verdict("InvalidAddresses", f"spec.addresses[{index}]: {error}"))
            continue
        if other := next((each for each in ranges if each.overlaps(found)), None):
            flaws.append(
                Verdict("InvalidAddresses", f"spec.addresses[{index}]: {text!r} overlaps {other} before it")
            )
            continue
        ranges.append(found)
    for name, selector in (
        ("serviceSelector", spec.service_selector),
        ("namespaceSelector", spec.namespace_selector),
    ):
        if selector and (flaw := selector.flaw()):
            flaws.append(Verdict("InvalidSelector", f"spec.{name}.{flaw}"))
    return tuple(ranges), flaws[0] if flaws else None


def _taken(around: Surroundings) -> list[tuple[Range, str, str]]:
    """Each with its reason and whose it is."""
    own = [(of_network(host_network(a)), "OverlapsNode", f"Node {name}") for a, name in around.nodes.items()]
    pods = [(of_network(n), "OverlapsPods", f"Pods of {name}") for n, name in around.pod_cidrs.items()]
    services = [
        (of_network(n), "OverlapsServices", f"ServiceCIDR {name}") for n, name in around.service_cidrs.items()
    ]
    return sorted(own + pods + services, key=lambda each: each[1:])


def _collision(ranges: Iterable[Range], taken: Iterable[tuple[Range, str, str]]) -> Verdict | None:
    for found in ranges:
        for other, reason, whose in taken:
            if found.overlaps(other):
                return Verdict(reason, f"spec.addresses: {found} overlaps {other}, which belongs to {whose}")
    return None


def _overlap(ranges: Iterable[Range], pools: Iterable[Pool]) -> Verdict | None:
    for found in ranges:
        for pool in pools:
            if other := next((each for each in pool.ranges if each.overlaps(found)), None):
                text = (
                    f"spec.addresses: {found} overlaps {other} of LoadBalancerPool {pool.name}, the older one"
                )
                return Verdict("OverlapsPool", text)
    return None


def _praise(ranges: Iterable[Range]) -> Verdict:
    counts = {4: 0, 6: 0}
    for each in ranges:
        counts[each.version] += each.size
    there = [f"{count} IPv{version}" for version, count in counts.items() if count]
    number = "address" if sum(counts.values()) == 1 else "addresses"
    return Verdict(USABLE, f"{' and '.join(there)} {number} for Services")
