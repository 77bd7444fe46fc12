"""The part of ``tulle status`` on host ports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tulle.cli.status.tables import print_table

if TYPE_CHECKING:
    from tulle.agent.host_ports.status import HostPortStatus

HEADS = ("HOST PORT", "POD", "LEADS TO", "HITS", "DIFFERENCE")


def show(found: Sequence[HostPortStatus]) -> None:
    """Nothing where there are none."""
    if found:
        print_table(HEADS, rows(found))


def rows(found: Iterable[HostPortStatus]) -> list[tuple[str, ...]]:
    """One for each port of a Pod in each family; in the order of ``HEADS``."""
    return [
        (
            ", ".join(each.host_ports),
            each.pod or "?",
            ", ".join(each.leads_to) or "nowhere",
            str(each.hits),
            "; ".join(each.differences),
        )
        for each in found
    ]
