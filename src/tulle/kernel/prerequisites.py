"""What this machine must have, each checked with what it is for and how to get it."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Final

from tulle.errors import KernelError, PrerequisiteError
from tulle.kernel import libc, mounts

LEAST_KERNEL = (6, 6)
"""The first with tcx."""

_ROOT_INODE: Final = 1  # of a kernfs
_BPFFS = Path("/sys/fs/bpf")


def require_root(needed_for: str) -> None:
    if os.geteuid() != 0:
        raise PrerequisiteError("not root", needed_for, "run it with sudo")


def require_kernel() -> None:
    """Linux 6.6 with BTF."""
    release = platform.release()
    found = re.match(r"(\d+)\.(\d+)", release)
    if not found or tuple(map(int, found.groups())) < LEAST_KERNEL:
        raise PrerequisiteError(
            f"Linux {release} is too old", "tcx, which attaches the eBPF programs", "boot Linux 6.6 or newer"
        )
    if not Path("/sys/kernel/btf/vmlinux").exists():
        raise PrerequisiteError(
            "no /sys/kernel/btf/vmlinux",
            "loading the eBPF programs",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
        )


def require_command(name: str, needed_for: str, package: str) -> None:
    if not shutil.which(name):
        raise PrerequisiteError(f"{name} is missing", needed_for, f"apt-get install {package}")


def require_libbpf() -> None:
    """libbpf 1.0 or newer."""
    try:
        ctypes.CDLL("libbpf.so.1")
    except OSError as error:
        raise PrerequisiteError(
            "libbpf 1.0 or newer is missing", "loading the eBPF programs", "apt-get install libbpf1"
        ) from error


def cgroup2() -> Path:
    """Where cgroup v2 is mounted; beside cgroup v1 it is not the usual place."""
    if points := mounts.of_type("cgroup2"):
        return points[0]
    raise PrerequisiteError(
        "cgroup v2 is not mounted",
        "Services at the socket, and the lab",
        "mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1",
    )


def whole_cgroup2() -> Path:
    """The same, if it is the root of the tree: that of a cgroup namespace holds only the processes in there.

    Raises ``PrerequisiteError``.
    """
    found = cgroup2()
    if found.stat().st_ino != _ROOT_INODE:
        raise PrerequisiteError(
            f"{found} is not the root of the cgroup tree, but that of a cgroup namespace",
            "Services at the socket for all processes of the node",
            "run the agent in the node's cgroup namespace, or mount the node's tree and name it in `cgroup`",
        )
    return found


def ensure_bpffs(folder: Path) -> None:
    """Makes ``folder`` in a bpffs, which is mounted when there is none: at its usual place, or right there.

    Raises ``PrerequisiteError`` when it cannot be mounted.
    """
    if mounts.type_at(folder) != "bpf":
        point = _BPFFS if folder.is_relative_to(_BPFFS) else folder
        try:
            point.mkdir(parents=True, exist_ok=True)
            libc.mount("bpf", point, "bpf", data="mode=700")
        except (OSError, KernelError) as error:
            raise PrerequisiteError(
                f"no bpffs at {point} ({error})",
                "keeping eBPF programs and maps",
                f"mount -t bpf bpf {point}",
            ) from error
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
