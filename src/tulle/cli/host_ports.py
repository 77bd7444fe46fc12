"""The part of ``tulle status`` on host ports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tulle.agent.host_ports.status import HostPortStatus

HEADS = ("HOST PORT", "POD", "LEADS TO", "HITS", "DIFFERENCE")


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
