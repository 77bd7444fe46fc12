"""The map ``rings``: where each ring stands in it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from tulle.kernel.bpf_maps import Map
from tulle.pod_to_service.regions import Region, Regions

log = logging.getLogger(__name__)


class Rings:
    """``used``: what is led to, or may still be looked at. Raises ``KernelError``."""

    def __init__(self, table: Map, used: Iterable[Region]) -> None:
        self._entry = table.value_size
        self._regions = Regions(table.most, used)
        self._table = table
        self._told = False

    def write(self, ring: bytes) -> Region | None:
        """Puts it where nobody looks; None where there is no room, which is told once."""
        region = self._regions.take(-(-len(ring) // self._entry))
        if region is None:
            if not self._told:
                log.warning(
                    "there is no room for more rings: new Services choose by hash alone, "
                    "and a client that another node takes over may be led to another endpoint"
                )
            self._told = True
            return None
        with self._table.mapped(region.start * self._entry, len(ring)) as memory:
            memory[:] = ring
        return region

    def read(self, region: Region, size: int) -> bytes:
        """``size`` bytes from its start."""
        with self._table.mapped(region.start * self._entry, size) as memory:
            return bytes(memory)

    def free(self, regions: Iterable[Region]) -> None:
        """Nobody looks at them any more."""
        for region in regions:
            self._regions.give(region)
            self._told = False
