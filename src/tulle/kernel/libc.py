"""The system calls that Python 3.11 does not wrap."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from tulle.errors import KernelError

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER = 36
MEMBARRIER_CMD_GLOBAL = 1
_MEMBARRIER = {"x86_64": 324, "aarch64": 283}.get(os.uname().machine, -1)
_LONG_ENOUGH = 1.0

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise KernelError(ctypes.get_errno(), what)


def setns(fd: int, kind: int) -> None:
    """Moves the calling thread into the namespace behind ``fd``; ``kind`` is a ``CLONE_NEW*`` flag."""
    _check(_libc.setns(fd, kind), "enter a namespace")


def unshare(flags: int) -> None:
    """Gives the calling thread new namespaces; ``flags`` are ``CLONE_NEW*``."""
    _check(_libc.unshare(flags), "make a namespace")


def mount(source: str, target: Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount {kind or source} on {target}")


def umount(target: Path) -> None:
    """umount2(2), detached: processes that still use the mount keep it until they end."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount {target}")


def become_subreaper() -> None:
    """Makes orphans among the process's descendants its children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "become a subreaper")


def await_readers() -> None:
    """Returns when every eBPF program that runs now has ended; takes some milliseconds.

    membarrier(2) with ``MEMBARRIER_CMD_GLOBAL`` waits for an RCU grace period. A kernel with CPUs in full
    dynticks mode refuses it: then a second goes by, in which no program runs for that long.
    """
    if _libc.syscall(_MEMBARRIER, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0:
        time.sleep(_LONG_ENOUGH)
