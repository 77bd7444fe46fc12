"""Which Pod holds which address, on disk: one file for each attachment, in a folder for each boot.

A record is written before its address is used, and removed once the Pod's link is gone. What a
killed agent wrote is there for the next one. Nothing is flushed to the disk itself: a power failure is a
reboot, and after a reboot no sandbox of the old boot exists, so all of its records go.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

import msgspec

from tulle.model.address import Address
from tulle.model.host_ports import HostPort

log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Attachment(msgspec.Struct, frozen=True, dict=True):
    """A Pod's interface: who has it, where it is, which addresses it has.

    ``link`` is the host's side of the veth; ``mac`` the Pod's side, as text; ``cookie`` is what eBPF programs
    know the network namespace by. ``deleted``: DEL was called, the kernel has not been rid of the link yet.
    ``host_ports``: those that it has now. ``mapped``: the runtime said which; the Pod's spec is not asked.
    """

    container_id: str
    ifname: str
    netns: str
    link: str
    mac: str
    ips: tuple[str, ...]
    namespace: str = ""
    pod: str = ""
    uid: str = ""
    cookie: int = 0
    deleted: bool = False
    host_ports: tuple[HostPort, ...] = ()
    mapped: bool = False

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for what is no address or MAC."""
        _ = self.addresses, bytes.fromhex(self.mac.replace(":", ""))

    @property
    def key(self) -> tuple[str, str]:
        return self.container_id, self.ifname

    @cached_property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(map(ip_address, self.ips))

    @property
    def owner(self) -> str:
        """The Pod's name for people, or the container's ID where the runtime gave no name."""
        return f"{self.namespace}/{self.pod}" if self.pod else self.container_id


def link_name(container_id: str, ifname: str) -> str:
    """The host's side of an attachment's veth: 14 characters, the same at every call."""
    return "tul" + hashlib.sha1(f"{container_id}/{ifname}".encode()).hexdigest()[:11]


def recorded(state: Path) -> list[Attachment]:
    """The attachments of this boot as they are on disk, for those who only look."""
    folder = state / "boots" / _BOOT_ID.read_text().strip()
    found = []
    for path in sorted(folder.glob("*.json")):
        with suppress(FileNotFoundError, msgspec.MsgspecError):
            found.append(msgspec.json.decode(path.read_bytes(), type=Attachment))
    return found


class AttachmentStore:
    """The attachments of this boot, in memory and on disk, the one written last at the end.

    Raises ``OSError`` when the disk fails.
    """

    def __init__(self, state: Path) -> None:
        boots = state / "boots"
        self._folder = boots / _BOOT_ID.read_text().strip()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for other in boots.iterdir():
            if other != self._folder:
                shutil.rmtree(other)
        self._all = {a.key: a for a in self._read()}

    def _read(self) -> Iterator[Attachment]:
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=Attachment)
            except msgspec.MsgspecError as error:
                log.error("%s is no attachment (%s); it is set aside", path, error)
                path.rename(path.with_suffix(".unreadable"))

    def __iter__(self) -> Iterator[Attachment]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def get(self, container_id: str, ifname: str) -> Attachment | None:
        return self._all.get((container_id, ifname))

    def by_link(self, link: str) -> Attachment | None:
        """The attachment whose host-side link has this name."""
        return next((a for a in self._all.values() if a.link == link), None)

    def add(self, attachment: Attachment) -> None:
        """Records the attachment; it is in the file when this returns, whole or not at all."""
        path = self._path(attachment)
        partial = path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(attachment))
        partial.replace(path)
        self._all[attachment.key] = attachment

    def remove(self, attachment: Attachment) -> None:
        self._path(attachment).unlink(missing_ok=True)
        self._all.pop(attachment.key, None)

    def _path(self, attachment: Attachment) -> Path:
        return self._folder / f"{attachment.link}.json"
