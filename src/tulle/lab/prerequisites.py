"""What the machine must have for a lab, said in one line when it has not."""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path
from typing import Final

from tulle.errors import PrerequisiteError
from tulle.lab import cgroup

_TOOLS: Final = {
    "ip": ("iproute2", "laying the lab's wires"),
    "nsenter": ("util-linux", "starting processes on a node"),
    "crun": ("crun", "running containers"),
    "nft": ("nftables", "masquerading towards the outside"),
}
_KERNEL: Final = (6, 6)


def check() -> None:
    """Raises ``PrerequisiteError`` for the first thing that is missing."""
    if os.geteuid() != 0:
        raise PrerequisiteError("not root", "making namespaces and loading eBPF", "use sudo")
    release = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    if release < _KERNEL:
        raise PrerequisiteError(
            f"kernel {platform.release()}", "eBPF at tcx hooks", "run a kernel of 6.6 or newer"
        )
    if not Path("/sys/kernel/btf/vmlinux").exists():
        raise PrerequisiteError("no BTF", "loading eBPF", "run a kernel built with CONFIG_DEBUG_INFO_BTF=y")
    cgroup.root()
    for tool, (package, purpose) in _TOOLS.items():
        if not shutil.which(tool):
            raise PrerequisiteError(f"{tool} is not installed", purpose, f"apt install {package}")
