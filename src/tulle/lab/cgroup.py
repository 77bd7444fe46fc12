"""The lab's branch of the cgroup v2 tree: everything that the lab starts lives and ends in it."""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path
from typing import Final

from tulle.errors import LabError
from tulle.kernel.prerequisites import cgroup2

JOIN: Final = ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"')
"""Command prefix: the next argument is a cgroup's folder, and what follows is run in that cgroup."""

_PATIENCE: Final = 10.0


def holds_us(path: Path) -> bool:
    """Whether this very process is at or below ``path``."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::")), "")
    return (cgroup2() / own).is_relative_to(path)


def kill(path: Path) -> None:
    """Kills all processes at and below ``path`` and returns once none is left. No cgroup, nothing to do.

    Raises ``LabError`` when a process does not end.
    """
    try:
        (path / "cgroup.kill").write_text("1")
        events = os.open(path / "cgroup.events", os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        _await_empty(path, events)
    finally:
        os.close(events)


def _await_empty(path: Path, events: int) -> None:
    poll = select.poll()
    poll.register(events, select.POLLPRI)  # the kernel signals a change of the file so
    end = time.monotonic() + _PATIENCE
    while b"populated 1" in os.pread(events, 256, 0):
        left = end - time.monotonic()
        if left <= 0:
            raise LabError(f"processes in {path} do not end; see {path}/cgroup.procs")
        poll.poll(left * 1000)


def remove(path: Path) -> None:
    """Removes the empty cgroup ``path`` with all below it."""
    with contextlib.suppress(FileNotFoundError):
        for child in path.iterdir():
            if child.is_dir():
                remove(child)
        path.rmdir()
