"""What became of a claim, in words: one for programs, a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tulle.external_to_service.pools.claim import Claim
from tulle.external_to_service.pools.offer import Offer
from tulle.model.address import Address

ASSIGNED = "Assigned"
KEPT = "AddressKept"
PARTLY = "PartlyAssigned"
INVALID_REQUEST = "InvalidRequest"
NOT_AVAILABLE = "RequestNotAvailable"
NO_POOL = "NoPool"
EXHAUSTED = "PoolExhausted"


class Outcome(NamedTuple):
    """``addresses``: one for each family, in the Service's order; none when it gets none. ``reason`` is one
    word, ``message`` a sentence for users, true until the next change; ``notes`` are what has just happened.
    """

    addresses: tuple[Address, ...]
    reason: str
    message: str
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.reason in (ASSIGNED, KEPT)


class Refusal(Exception):
    """Why a family gets no address."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.final = reason in (INVALID_REQUEST, NOT_AVAILABLE)
        """Whoever asks for an address wants that one, and not half of what was asked for."""


def why_not(claim: Claim, other: Claim) -> str:
    has = f"Service {other.name} has it"
    if not claim.share or claim.share != other.share:
        return has
    if both := sorted(claim.ports & other.ports):
        protocol, port = both[0]
        return f"{has} and uses port {port}/{protocol}, too"
    return f"{has}: to share it with externalTrafficPolicy Local, both need the same selector"


def no_pool(offer: Offer, version: int) -> str:
    if offer.waiting:
        pool = offer.waiting[0]
        return f"LoadBalancerPool {pool.name} cannot be used: {pool.verdict.message}"
    if offer.automatic:
        names = ", ".join(pool.name for pool in offer.automatic)
        return f"LoadBalancerPool {names} has no IPv{version} addresses"
    if not offer.known:
        return "there is no LoadBalancerPool"
    return "no LoadBalancerPool names this Service, and none is the default one"


def outcome_of(
    claim: Claim,
    offer: Offer,
    addresses: tuple[Address, ...],
    refusals: Sequence[Refusal],
    lost: Mapping[Address, Claim],
) -> Outcome:
    notes = tuple(
        f"{address} was left to Service {other.name}, the older one" for address, other in lost.items()
    )
    refused = [refusal.message for refusal in refusals]
    if not addresses:
        return Outcome((), refusals[0].reason if refusals else NO_POOL, "; ".join(refused), notes)
    text = f"{' and '.join(map(str, addresses))} given"
    if refusals:
        return Outcome(addresses, PARTLY, "; ".join([text, *refused]), notes)
    if outside := [_why_kept(address, offer) for address in addresses if not offer.covers(address)]:
        return Outcome(addresses, KEPT, "; ".join(outside), notes)
    return Outcome(addresses, ASSIGNED, text, notes)


def _why_kept(address: Address, offer: Offer) -> str:
    owner = offer.owner(address)
    if owner is None:
        where = "is in no LoadBalancerPool any more"
    elif owner.usable:
        where = f"is in LoadBalancerPool {owner.name}, which is not for this Service any more"
    else:
        where = f"is in LoadBalancerPool {owner.name}, which cannot be used any more"
    return f"{address} {where}; it is kept until it is removed from status.loadBalancer.ingress"
