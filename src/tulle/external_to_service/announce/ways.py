"""By which way the network learns of a load balancer's address: as its pool says. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tulle.external_to_service.pools import ranges
from tulle.external_to_service.pools.conditions import SERVICE_CONDITION
from tulle.external_to_service.pools.ranges import Range
from tulle.model.address import Address
from tulle.model.announcing import AnnouncedPool
from tulle.model.services import Service

L2, BGP = "L2", "BGP"


@dataclass(frozen=True, slots=True)
class Way:
    """``announced`` are the addresses of pools that name the way, ``pooled`` those of all pools."""

    announced: tuple[Range, ...] = ()
    pooled: tuple[Range, ...] = ()

    def has(self, address: Address, given: bool) -> bool:
        """``given``: see ``is_given``. Such an address whose pool has gone is announced by every way: whoever
        uses it is not to be cut off.
        """
        if any(address in each for each in self.announced):
            return True
        return given and not any(address in each for each in self.pooled)


def way(pools: Iterable[AnnouncedPool], name: str) -> Way:
    """``name``: ``L2`` or ``BGP``. What cannot be read is left out here; whoever gives the addresses away
    says so in the pool's status.
    """
    pools = list(pools)
    named = [p for p in pools if p.spec.announce is None or name in p.spec.announce]
    return Way(tuple(_ranges(named)), tuple(_ranges(pools)))


def is_given(service: Service) -> bool:
    """Whether our controller gave the Service its addresses, and not somebody else of the same class."""
    said = service.status.conditions or ()
    return any(c.type == SERVICE_CONDITION and c.status == "True" for c in said)


def _ranges(pools: Iterable[AnnouncedPool]) -> Iterable[Range]:
    for pool in pools:
        for text in pool.spec.addresses or ():
            try:
                yield ranges.parse(text)
            except ValueError:
                continue
