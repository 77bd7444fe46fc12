"""The cluster's LoadBalancerPools, as `tulle status` shows them."""

from __future__ import annotations

import asyncio

import msgspec

from tulle.agent.services.api import PATIENCE, connected
from tulle.agent.settings import Settings
from tulle.errors import ApiError, ApiUnreachable, ConfigError, NotFound
from tulle.kube.resources import LOAD_BALANCER_POOL
from tulle.model.balancing import LoadBalancerPool, condition_of


class PoolCount(msgspec.Struct, frozen=True):
    """Addresses of one family: how many there are, and how many of them Services have."""

    total: int
    assigned: int


class PoolStatus(msgspec.Struct, frozen=True):
    """``ready`` is None, and ``reason`` empty, until `tulle controller` has looked at the pool."""

    name: str
    addresses: tuple[str, ...]
    default: bool
    ipv4: PoolCount
    ipv6: PoolCount
    ready: bool | None
    reason: str
    message: str


class PoolsStatus(msgspec.Struct, frozen=True, rename="camel"):
    """``api_error``: why there are none here; empty where the API answered. ``installed``: whether the API
    knows of LoadBalancerPools at all.
    """

    api_error: str
    installed: bool
    pools: tuple[PoolStatus, ...]


async def pools_status(settings: Settings) -> PoolsStatus:
    """Never raises: a node is well without pools."""
    try:
        async with connected(settings) as client, asyncio.timeout(PATIENCE):
            found = (await client.list(LOAD_BALANCER_POOL)).items
    except NotFound:
        return PoolsStatus("", False, ())
    except TimeoutError:
        return PoolsStatus(f"no answer within {PATIENCE:.0f} s", True, ())
    except (ApiError, ApiUnreachable, ConfigError) as error:
        return PoolsStatus(str(error), True, ())
    return PoolsStatus("", True, tuple(map(described, sorted(found, key=lambda pool: pool.metadata.name))))


def described(pool: LoadBalancerPool) -> PoolStatus:
    """What its own status says."""
    ready = condition_of(pool.status.conditions, "Ready")
    counts = [PoolCount(each.total, each.assigned) for each in (pool.status.ipv4, pool.status.ipv6)]
    return PoolStatus(
        name=pool.metadata.name,
        addresses=pool.spec.addresses or (),
        default=pool.spec.default,
        ipv4=counts[0],
        ipv6=counts[1],
        ready=ready.status == "True" if ready else None,
        reason=ready.reason if ready else "",
        message=ready.message if ready else "",
    )
