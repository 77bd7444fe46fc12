"""What the machine must have for a lab."""

from __future__ import annotations

from typing import Final

from tulle.kernel.prerequisites import cgroup2, require_command, require_kernel, require_libbpf, require_root

_TOOLS: Final = {
    "ip": ("iproute2", "laying the lab's wires"),
    "nsenter": ("util-linux", "starting processes on a node"),
    "crun": ("crun", "running containers"),
    "nft": ("nftables", "masquerading towards the outside"),
}


def check() -> None:
    """Raises ``PrerequisiteError`` for the first thing that is missing."""
    require_root("making namespaces and loading eBPF")
    require_kernel()
    require_libbpf()
    cgroup2()
    for tool, (package, purpose) in _TOOLS.items():
        require_command(tool, purpose, package)
