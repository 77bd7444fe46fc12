"""Mounts of the lab, which all lie below its run folder."""

from __future__ import annotations

import re
from pathlib import Path

from tulle.kernel import libc

_ESCAPE = re.compile(r"\\([0-7]{3})")


def below(folder: Path) -> list[Path]:
    """Mount points at or below ``folder``, the latest first: the order in which they can be unmounted."""
    top = str(folder)
    points = [line.split(" ", 5)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found = [_plain(point) for point in points if point == top or point.startswith(f"{top}/")]
    return found[::-1]


def _plain(point: str) -> Path:
    """The kernel writes blanks and the like as octal numbers."""
    return Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), point))


def unmount_below(folder: Path) -> None:
    """Unmounts everything at or below ``folder``. Raises ``KernelError``."""
    for point in below(folder):
        libc.umount(point)


def private_tmpfs(folder: Path) -> None:
    """A tmpfs at ``folder`` for root only; what is mounted in it does not spread to other namespaces."""
    folder.mkdir(parents=True, exist_ok=True)
    libc.mount("tmpfs", folder, "tmpfs", data="mode=700")
    libc.mount("none", folder, flags=libc.MS_PRIVATE)
