"""How many flows a node's programs remember."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from tulle.kernel import bpf_maps
from tulle.kernel.bpf_objects import BpfObject
from tulle.kernel.bpf_run import run


class FlowCount:
    """Asks the kernel, which keeps the number itself: a million flows would take a second to look at.

    ``maps``: the folder where the maps are pinned. Raises ``KernelError``.
    """

    def __init__(self, maps: Path) -> None:
        self._object = BpfObject(Path(str(files("tulle"))) / "_native" / "count.bpf.o")
        try:
            self._object.load(maps, {}, {pin.name: capacity(pin) for pin in maps.iterdir()})
        except BaseException:
            self._object.close()
            raise

    def read(self) -> int:
        """As of now, exactly."""
        return run(self._object.programs["count_flows"])

    def close(self) -> None:
        """Lets go of the program."""
        self._object.close()


def capacity(pin: Path) -> int:
    """How many entries fit into a pinned map."""
    table = bpf_maps.open_map(pin, 0)
    try:
        return table.most
    finally:
        os.close(table.fd)
