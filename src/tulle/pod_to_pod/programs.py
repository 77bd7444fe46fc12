"""The programs of a node: the objects that they come in, what those are told, and where each is attached."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Final

from tulle.kernel import tc
from tulle.kernel.bpf_maps import capacity
from tulle.kernel.bpf_objects import BPF_TCX_EGRESS, BPF_TCX_INGRESS, BpfObject
from tulle.kernel.btf import Contract

log = logging.getLogger(__name__)

OBJECTS: Final = ("pod", "uplink", "socket")
"""All have one contract, and share their maps."""

GATEWAY_MAC: Final = bytes.fromhex("0274756c6c65")
"""The host's side of every Pod's veth, and every overlay device."""

POD_PROGRAMS: Final = (("from_pod", tc.INGRESS), ("to_pod", tc.EGRESS))
DEVICE_PROGRAMS: Final = {
    "uplink": (("from_uplink", BPF_TCX_INGRESS), ("to_uplink", BPF_TCX_EGRESS)),
    "overlay": (("from_overlay", BPF_TCX_INGRESS), ("to_overlay", BPF_TCX_EGRESS)),
}
"""What is attached to a device that is not a Pod's, by the device's role."""

SOCKET_PROGRAMS: Final = {
    "connect4": 10,
    "connect6": 11,
    "sendmsg4": 14,
    "sendmsg6": 15,
    "recvmsg4": 19,
    "recvmsg6": 20,
    "getpeername4": 29,
    "getpeername6": 30,
}
"""What is attached to the node's cgroup, with the hook's number (``BPF_CGROUP_*`` in ``linux/bpf.h``)."""
SOCKETS: Final = "sockets"
"""What the pins of their links are called by, where others have a device's name."""


class ExternalTraffic(StrEnum):
    """The setting ``externalTraffic``: how a Pod answers a client that entered the cluster by another node
    (``enum external_traffic`` in ``bpf/contract.h``).
    """

    HANDOVER = "handover"
    DSR = "dsr"
    SNAT = "snat"


@dataclass(frozen=True, slots=True)
class DatapathSettings:
    """What the programs are told when they are loaded. ``flow_table_size``: how many flows are remembered."""

    overlay_vni: int = 84
    overlay_port: int = 4789
    external_traffic: ExternalTraffic = ExternalTraffic.HANDOVER
    flow_table_size: int = 1 << 20


def open_object(name: str) -> BpfObject:
    """One of ``OBJECTS``, or another one of ours; not loaded yet."""
    return BpfObject(Path(str(files("tulle"))) / "_native" / f"{name}.bpf.o")


def folder_of(root: Path, contract: Contract) -> Path:
    return root / f"v{contract.enums['contract']['CONTRACT_VERSION'].value}"


def constants(contract: Contract, settings: DatapathSettings) -> dict[str, bytes]:
    """The variables of ``bpf/config.h``."""
    external = contract.enums["external_traffic"][f"EXTERNAL_{settings.external_traffic.name}"]
    return {
        "overlay_vni": settings.overlay_vni.to_bytes(4, sys.byteorder),
        "overlay_port": settings.overlay_port.to_bytes(2, sys.byteorder),
        "gateway_mac": GATEWAY_MAC,
        "external_traffic": external.to_bytes(4, sys.byteorder),
    }


def flow_table_size(pin: Path, wanted: int) -> int:
    """A table that is there keeps its size, and its flows."""
    if not pin.exists():
        return wanted
    there = capacity(pin)
    if there != wanted:
        log.warning(
            "the flow table has %d entries, not flowTableSize %d: that counts after a reboot, or once "
            "`tulle uninstall` has taken the table away",
            there,
            wanted,
        )
    return there
