"""How many flows a node's programs remember."""

from __future__ import annotations

import logging
from pathlib import Path

from tulle.errors import KernelError
from tulle.kernel.bpf_maps import capacity
from tulle.kernel.bpf_run import run
from tulle.pod_to_pod.programs import open_object

log = logging.getLogger(__name__)


class FlowCount:
    """Asks the kernel, which keeps the number itself: a million flows would take a second to look at.

    ``maps``: the folder where the maps are pinned. Raises ``KernelError``.
    """

    def __init__(self, maps: Path) -> None:
        self._object = open_object("count")
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


def flow_count(maps: Path) -> FlowCount | None:
    """None where the kernel cannot tell: nothing else depends on that."""
    try:
        return FlowCount(maps)
    except KernelError as error:
        log.warning("flows cannot be counted: %s", error)
        return None
