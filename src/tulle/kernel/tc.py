"""Programs on a device by the ``clsact`` qdisc, for devices that come and go with Pods.

A tcx link is the newer way, and what long-lived devices use here. But the kernel waits for an RCU grace
period whenever it attaches or removes one: 14 ms each on a 250 Hz kernel, with the lock held that all
network configuration needs. A filter of ``clsact`` costs 0.3 ms, and goes with its device.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from tulle.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REPLACE,
    Netlink,
    Request,
    attribute,
    parse_attributes,
)

RTM_NEWQDISC, RTM_NEWTFILTER, RTM_GETTFILTER = 36, 44, 46
TC_H_CLSACT: Final = 0xFFFFFFF1
CLSACT_HANDLE: Final = 0xFFFF0000
INGRESS: Final = 0xFFFFFFF2
EGRESS: Final = 0xFFFFFFF3
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT = 6, 7, 8, 1

_PREFERENCE: Final = 1
_ETH_P_ALL: Final = 3
_MESSAGE = struct.Struct("=BxxxiIII")


def attach(index: int, parent: int, program: int, name: str) -> list[Request]:
    """Attaches a program to a device at ``INGRESS`` or ``EGRESS``, in the place of the one before it."""
    qdisc = _MESSAGE.pack(socket.AF_UNSPEC, index, CLSACT_HANDLE, TC_H_CLSACT, 0)
    information = _PREFERENCE << 16 | socket.htons(_ETH_P_ALL)
    head = _MESSAGE.pack(socket.AF_UNSPEC, index, 1, parent, information)
    options = (
        attribute(TCA_BPF_FD, program)
        + attribute(TCA_BPF_NAME, name)
        + attribute(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT)
    )
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return [
        Request(
            RTM_NEWQDISC,
            flags,
            qdisc + attribute(TCA_KIND, "clsact"),
            f"add clsact to link {index}",
        ),
        Request(
            RTM_NEWTFILTER,
            flags,
            head + attribute(TCA_KIND, "bpf") + attribute(TCA_OPTIONS, options),
            f"attach {name} to link {index}",
        ),
    ]


def attached(netlink: Netlink, index: int, parent: int) -> set[str]:
    """The names of the programs on a device; none when it has no ``clsact``. Raises ``KernelError``."""
    head = _MESSAGE.pack(socket.AF_UNSPEC, index, 0, parent, 0)
    names: set[str] = set()
    for _, body in netlink.dump(
        Request(RTM_GETTFILTER, NLM_F_DUMP, head, f"list the filters of link {index}")
    ):
        found = parse_attributes(body[_MESSAGE.size :])
        options = parse_attributes(found.get(TCA_OPTIONS, b""))
        if TCA_BPF_NAME in options:
            names.add(options[TCA_BPF_NAME].rstrip(b"\0").decode())
    return names
