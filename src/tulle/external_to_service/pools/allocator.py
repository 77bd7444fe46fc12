"""Gives addresses to Services, keeps what they have, and never gives one twice.

All state follows from the Services themselves: what they ask for and what their status says. So a new
allocator that is told of every Service (``remember``) goes on where another one ended, wherever that was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from ipaddress import IPv4Address, IPv6Address

from tulle.external_to_service.pools.claim import Claim
from tulle.external_to_service.pools.external import ExternalIPs
from tulle.external_to_service.pools.judge import Pool
from tulle.external_to_service.pools.offer import Offer
from tulle.external_to_service.pools.outcome import (
    EXHAUSTED,
    INVALID_REQUEST,
    NO_POOL,
    NOT_AVAILABLE,
    Outcome,
    Refusal,
    no_pool,
    outcome_of,
    why_not,
)
from tulle.external_to_service.pools.ranges import Range
from tulle.kube.resources import Key
from tulle.model.address import Address


class Allocator:
    """``remember`` first every Service, then ``settle`` them one by one, the oldest first."""

    def __init__(self) -> None:
        self._claims: dict[Key, Claim] = {}
        self._held: dict[Key, tuple[Address, ...]] = {}
        self._lingering: dict[Key, tuple[Address, ...]] = {}
        self._holders: defaultdict[Address, set[Key]] = defaultdict(set)
        self._sharing: defaultdict[str, set[Key]] = defaultdict(set)
        self._external = ExternalIPs()
        self._lowest: dict[Range, int] = {}
        self._displaced: set[Key] = set()
        self._freed = False

    def held(self, key: Key) -> tuple[Address, ...]:
        """What a Service has."""
        return self._held.get(key, ())

    def occupied(self, key: Key) -> tuple[Address, ...]:
        """What nobody else gets because of a Service: what it has, and what its status still says."""
        return self.held(key) + self._lingering.get(key, ())

    def count(self, pool: Pool, version: int) -> int:
        """How many addresses of a pool somebody has."""
        return sum(address.version == version and address in pool for address in self._holders)

    def name_external(self, key: Key, addresses: Iterable[Address]) -> None:
        """The Service has exactly these in ``spec.externalIPs``: from now on nobody is given them."""
        for address in self._external.put(key, addresses):
            self._freed = True
            self._lower(address)

    def disputed(self, key: Key) -> list[tuple[Address, Claim]]:
        """What the Service has in ``spec.externalIPs``, but another one was given, and which one."""
        named = sorted(self._external.of(key), key=lambda address: (address.version, address))
        return [(address, other) for address in named for other in self._others(address, key)]

    def take_displaced(self) -> set[Key]:
        """Services to look at again: somebody older needs what they have, or was given what they name."""
        displaced, self._displaced = self._displaced, set()
        return displaced

    def take_freed(self) -> bool:
        """Whether an address was given back since the last call, so that who waits may get one."""
        freed, self._freed = self._freed, False
        return freed

    def remember(self, claim: Claim) -> None:
        """What the Service's status says counts as its own, also for a Service that others see to."""
        self._note(claim)
        self._hold(claim, claim.published)

    def release(self, key: Key) -> None:
        """The Service is gone, or is not for us any more."""
        if claim := self._claims.pop(key, None):
            self._sharing[claim.share].discard(key)
            self._free(key, self._held.pop(key, ()) + self._lingering.pop(key, ()))

    def confirm(self, key: Key) -> None:
        """The Service's status says what was settled: whatever else it said before is free from now on."""
        self._free(key, self._lingering.pop(key, ()))

    def settle(self, claim: Claim, offer: Offer) -> Outcome:
        """Keeps what the Service rightly has, gives what it lacks, and takes the rest back.

        What its status still says is nobody else's until ``confirm``: the write may fail, and traffic go on.
        """
        if claim.key not in self._claims or self._claims[claim.key].uid != claim.uid:
            self.release(claim.key)
            self.remember(claim)
        self._note(claim)
        lost = self._lost(claim)
        kept = self._keepable(claim, offer, lost)
        found, refusals = self._choose_all(claim, offer, kept)
        if refusals and (claim.needs_all or any(each.final for each in refusals)):
            found = {}
        self._hold(claim, found.values())
        self._displace(claim)
        return outcome_of(claim, offer, tuple(found.values()), refusals, lost)

    def _note(self, claim: Claim) -> None:
        if old := self._claims.get(claim.key):
            self._sharing[old.share].discard(claim.key)
        self._claims[claim.key] = claim
        if claim.share:
            self._sharing[claim.share].add(claim.key)

    def _hold(self, claim: Claim, addresses: Iterable[Address]) -> None:
        """Exactly these from now on, and what is still in the status."""
        new = tuple(dict.fromkeys(addresses))
        lingering = tuple(each for each in claim.published if each not in new)
        before = self.occupied(claim.key)
        self._free(claim.key, [each for each in before if each not in new + lingering])
        for address in new + lingering:
            self._holders[address].add(claim.key)
            if address not in before:
                self._displaced |= self._external.naming(address) - {claim.key}
        self._held[claim.key], self._lingering[claim.key] = new, lingering

    def _free(self, key: Key, addresses: Iterable[Address]) -> None:
        for address in addresses:
            self._freed = True
            self._holders[address].discard(key)
            if not self._holders[address]:
                del self._holders[address]
                self._lower(address)

    def _lower(self, address: Address) -> None:
        for each, lowest in self._lowest.items():
            if address in each and int(address) < lowest:
                self._lowest[each] = int(address)

    def _others(self, address: Address, key: Key) -> list[Claim]:
        """Those that have it, too."""
        return [self._claims[each] for each in self._holders.get(address, ()) if each != key]

    def _lost(self, claim: Claim) -> dict[Address, Claim]:
        """What it has, but an older Service has as well, and does not share."""
        lost: dict[Address, Claim] = {}
        for address in self.held(claim.key):
            for other in self._others(address, claim.key):
                if other.age < claim.age and not claim.may_share_with(other):
                    lost[address] = other
        return lost

    def _displace(self, claim: Claim) -> None:
        for address in self.held(claim.key):
            for other in self._others(address, claim.key):
                if not claim.may_share_with(other):
                    self._displaced.add(other.key)

    def _keepable(self, claim: Claim, offer: Offer, lost: Iterable[Address]) -> dict[int, Address]:
        """By IP version. What no pool offers any more is kept while the status has it, for its traffic."""
        asked = {address.version: address for address in claim.requested}
        kept: dict[int, Address] = {}
        for address in sorted(self.held(claim.key), key=offer.covers, reverse=True):
            wanted = address.version in claim.versions and address not in lost
            as_asked = asked.get(address.version, address) == address
            if wanted and as_asked and (offer.covers(address) or address in claim.published):
                kept.setdefault(address.version, address)
        return kept

    def _choose_all(
        self, claim: Claim, offer: Offer, kept: dict[int, Address]
    ) -> tuple[dict[int, Address], list[Refusal]]:
        """By IP version; and why there is none for the other ones."""
        if claim.flaw:
            return {}, [Refusal(INVALID_REQUEST, claim.flaw)]
        found: dict[int, Address] = {}
        refusals: list[Refusal] = []
        asked = {address.version: address for address in claim.requested}
        for version in claim.versions:
            try:
                if version in kept:
                    found[version] = kept[version]
                elif version in asked:
                    found[version] = self._requested(claim, offer, asked[version])
                else:
                    found[version] = self._any(claim, offer, version)
            except Refusal as refusal:
                refusals.append(refusal)
        return found, refusals

    def _requested(self, claim: Claim, offer: Offer, address: Address) -> Address:
        owner = offer.owner(address)
        if owner is None:
            raise Refusal(NOT_AVAILABLE, f"{address} is asked for, but is in no LoadBalancerPool")
        where = f"{address} is asked for, but LoadBalancerPool {owner.name}"
        if not owner.usable:
            raise Refusal(NOT_AVAILABLE, f"{where} cannot be used: {owner.verdict.message}")
        if not offer.covers(address):
            raise Refusal(NOT_AVAILABLE, f"{where} is not for this Service: its selectors do not match")
        for other in self._others(address, claim.key):
            if not claim.may_share_with(other):
                raise Refusal(NOT_AVAILABLE, f"{address} is asked for, but {why_not(claim, other)}")
        for namespace, name in sorted(self._strangers(address, claim.key)):
            has = f"Service {namespace}/{name} has it in spec.externalIPs"
            raise Refusal(NOT_AVAILABLE, f"{address} is asked for, but {has}")
        return address

    def _strangers(self, address: Address, key: Key) -> Set[Key]:
        """Those others that name it in ``spec.externalIPs`` and were not given it themselves."""
        return self._external.naming(address) - self._holders.get(address, set()) - {key}

    def _any(self, claim: Claim, offer: Offer, version: int) -> Address:
        """One that it can share, else the lowest that is free."""
        pools = [pool for pool in offer.automatic if pool.size(version)]
        if not pools:
            raise Refusal(NO_POOL, no_pool(offer, version))
        for pool in pools:
            found = self._shareable(claim, pool, version) or self._lowest_free(pool, version)
            if found is not None:
                return found
        names = ", ".join(pool.name for pool in pools)
        raise Refusal(EXHAUSTED, f"no IPv{version} address is free in LoadBalancerPool {names}")

    def _shareable(self, claim: Claim, pool: Pool, version: int) -> Address | None:
        peers = self._sharing.get(claim.share, set()) - {claim.key} if claim.share else set()
        there = {address for key in peers for address in self.held(key)}
        for address in sorted(each for each in there if each.version == version and each in pool):
            shared = all(claim.may_share_with(other) for other in self._others(address, claim.key))
            if shared and not self._strangers(address, claim.key):
                return address
        return None

    def _taken(self, address: Address) -> bool:
        return address in self._holders or bool(self._external.naming(address))

    def _lowest_free(self, pool: Pool, version: int) -> Address | None:
        """What is below ``_lowest`` of a range is known to be taken, and is not looked at again."""
        make = IPv4Address if version == 4 else IPv6Address
        for each in pool.ranges:
            if each.version == version:
                number = self._lowest.get(each, int(each.first))
                while number <= int(each.last) and self._taken(make(number)):
                    number += 1
                self._lowest[each] = number
                if number <= int(each.last):
                    return make(number)
        return None
