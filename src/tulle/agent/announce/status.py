"""What this node answers for by ARP and neighbour discovery, as its kernel has it."""

from __future__ import annotations

import socket

import msgspec

from tulle.agent.announce.announced import boot_time
from tulle.model.address import from_bytes
from tulle.pod_to_pod.pinned import Pinned


class AnnouncementStatus(msgspec.Struct, frozen=True):
    """An address that is answered for on an uplink, for ``seconds`` more if the lease is not renewed."""

    address: str
    uplink: str
    seconds: float


def announcements(pinned: Pinned) -> list[AnnouncementStatus]:
    """Those that have not run out, by address. Raises ``KernelError`` (ENOENT) where no agent has run."""
    layout = pinned.contract.layout
    table = pinned.open("announcements", layout("announcement").size)
    now = boot_time()
    found = []
    for key, value in table.items(layout("announcement_key").size).items():
        place = pinned.contract.unpack("announcement_key", key)
        left = pinned.contract.unpack("announcement", value).until / 1e9 - now
        if left > 0:
            found.append((from_bytes(bytes(place.address)), _name(place.ifindex), round(left, 3)))
    found.sort(key=lambda each: (each[0].version, int(each[0]), each[1]))
    return [AnnouncementStatus(str(address), uplink, left) for address, uplink, left in found]


def _name(index: int) -> str:
    """The index itself for a device that is gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)
