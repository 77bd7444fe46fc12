"""Pools and Services for tests, as short as they can be said."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from tulle.external_to_service.pools.claim import Claim, claim_of
from tulle.external_to_service.pools.judge import Pool, Surroundings, judge
from tulle.external_to_service.pools.offer import Offer, offer
from tulle.model.address import Address
from tulle.model.balancing import (
    BalancedService,
    BalancedSpec,
    BalancedStatus,
    FullMeta,
    LoadBalancerPool,
    PoolSpec,
)
from tulle.model.services import Ingress, LoadBalancerStatus, ServicePort

NOBODY = Surroundings({}, {}, {})


def pool(name: str, *addresses: str, age: int = 0, **spec: Any) -> LoadBalancerPool:
    """Older with a smaller ``age``; a default pool, unless it has selectors."""
    default = not any(key.endswith("selector") for key in spec)
    meta = FullMeta(name, uid=name, creation_timestamp=stamp(age), generation=1)
    return LoadBalancerPool(meta, PoolSpec(addresses, **{"default": default, **spec}))


def stamp(age: int) -> str:
    return f"2026-01-01T00:{age // 60:02}:{age % 60:02}Z"


def judged(*pools: LoadBalancerPool, around: Surroundings = NOBODY) -> tuple[Pool, ...]:
    return judge(pools, around)


def offered(*pools: LoadBalancerPool, labels: dict[str, str] | None = None) -> Offer:
    return offer(judged(*pools), labels or {}, {})


def service(
    name: str = "a",
    *ips: str,
    age: int = 0,
    ports: tuple[int, ...] = (80,),
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> BalancedService:
    """``default/a`` of type LoadBalancer, IPv4, with ``ips`` in its status."""
    meta = FullMeta(
        name,
        "default",
        uid=name,
        resource_version="7",
        creation_timestamp=stamp(age),
        annotations=annotations,
        labels=labels,
    )
    asked = {
        "type": "LoadBalancer",
        "ports": tuple(ServicePort(port) for port in ports),
        "ip_families": ("IPv4",),
        **spec,
    }
    ingress = tuple(Ingress(ip, ip_mode="VIP") for ip in ips)
    return BalancedService(meta, BalancedSpec(**asked), BalancedStatus(LoadBalancerStatus(ingress or None)))


def claim(name: str = "a", *ips: str, **fields: Any) -> Claim:
    return claim_of(service(name, *ips, **fields))


def addresses(*texts: str) -> tuple[Address, ...]:
    return tuple(map(ip_address, texts))
