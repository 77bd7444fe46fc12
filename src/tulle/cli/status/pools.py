"""The table of LoadBalancerPools in ``tulle status``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from tulle.cli.status.tables import print_table

if TYPE_CHECKING:
    from tulle.agent.pool_status import PoolCount, PoolsStatus, PoolStatus

HEADS = ("POOL", "ADDRESSES", "FOR", "IPV4", "IPV6", "READY")


def show(found: PoolsStatus) -> None:
    """Nothing where there are none."""
    if found.pools:
        typer.echo()
        print_table(HEADS, rows(found))
    for line in remarks(found):
        typer.echo(line)


def rows(found: PoolsStatus) -> Iterator[tuple[str, ...]]:
    """One for each pool, in the order of ``HEADS``."""
    for pool in found.pools:
        yield (
            pool.name,
            ", ".join(pool.addresses),
            "all others" if pool.default else "selected",
            _count(pool.ipv4),
            _count(pool.ipv6),
            {True: "yes", False: "no", None: "not looked at"}[pool.ready],
        )


def remarks(found: PoolsStatus) -> Iterator[str]:
    """What is wrong, a line for each."""
    for pool in found.pools:
        if pool.ready is not True:
            yield f"! LoadBalancerPool {pool.name}: {_why(pool)}"


def _why(pool: PoolStatus) -> str:
    return pool.message or "no `tulle controller` has looked at it"


def _count(count: PoolCount) -> str:
    return f"{count.assigned} of {count.total}" if count.total else ""
