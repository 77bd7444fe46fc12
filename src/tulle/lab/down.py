"""Takes a lab away without a trace, whatever state it is in."""

from __future__ import annotations

import contextlib
import shutil

from tulle.errors import LabError
from tulle.kernel import mounts
from tulle.lab import cgroup
from tulle.lab.paths import RUN, Paths


def down(paths: Paths) -> bool:
    """Whether there was anything. Raises ``LabError`` when a process does not end, ``KernelError``.

    All that a lab makes is in its cgroup or below its run folder: processes die with the first, and
    namespaces, with the links in them, and eBPF pins with the mounts below the second.
    """
    if cgroup.holds_us(paths.cgroup):
        raise LabError(f"this shell runs within lab {paths.name} and would end with it; leave it first")
    there = paths.run.exists() or paths.cgroup.exists()
    cgroup.kill(paths.cgroup)
    cgroup.remove(paths.cgroup)
    mounts.unmount_below(paths.run)
    if paths.run.exists():
        shutil.rmtree(paths.run)
    for folder in (RUN, RUN.parent):
        with contextlib.suppress(OSError):  # other labs, or other parts of Tulle, may be in it
            folder.rmdir()
    return there
