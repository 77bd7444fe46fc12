"""Which pools are there for a Service.

A pool with selectors is for the Services that they name. A Service that no pool's selectors name gets its
address from the pools with ``default: true``. A pool that has neither is for Services that ask for one of its
addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tulle.external_to_service.pools.judge import Pool
from tulle.model.address import Address


@dataclass(frozen=True, slots=True)
class Offer:
    """For one Service. ``automatic``: where it gets an address from without asking, in this order;
    ``on_request``: where it may ask for one; both have usable pools only. ``waiting``: those that would be
    among ``automatic`` if they were usable. ``known``: every pool there is.
    """

    automatic: tuple[Pool, ...] = ()
    on_request: tuple[Pool, ...] = ()
    waiting: tuple[Pool, ...] = ()
    known: tuple[Pool, ...] = ()

    def owner(self, address: Address) -> Pool | None:
        """The pool that has this address, a usable one if there are several."""
        having = [pool for pool in self.known if address in pool]
        return next((pool for pool in having if pool.usable), next(iter(having), None))

    def covers(self, address: Address) -> bool:
        """Whether the Service could get it now."""
        return any(address in pool for pool in (*self.automatic, *self.on_request))


def offer(pools: Iterable[Pool], labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> Offer:
    """``labels`` are the Service's own."""
    known = tuple(pools)
    named = [pool for pool in known if _selective(pool) and _names(pool, labels, namespace_labels)]
    chosen = named or [pool for pool in known if pool.spec.default]
    free = [pool for pool in known if not _selective(pool)]
    return Offer(
        automatic=tuple(pool for pool in chosen if pool.usable),
        on_request=tuple(pool for pool in (*named, *free) if pool.usable),
        waiting=tuple(pool for pool in chosen if not pool.usable),
        known=known,
    )


def _selective(pool: Pool) -> bool:
    return pool.spec.service_selector is not None or pool.spec.namespace_selector is not None


def _names(pool: Pool, labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> bool:
    """One that is missing does not matter."""
    service, namespace = pool.spec.service_selector, pool.spec.namespace_selector
    return (service is None or service.matches(labels)) and (
        namespace is None or namespace.matches(namespace_labels)
    )
