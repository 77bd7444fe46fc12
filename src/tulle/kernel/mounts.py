"""What is mounted where, as this process sees it, and a few ways to change it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tulle.kernel import libc

_TABLE: Final = Path("/proc/self/mountinfo")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def _entries() -> Iterator[tuple[str, str]]:
    """(mount point as the kernel writes it, type of file system), in the order of mounting."""
    for line in _TABLE.read_text().splitlines():
        before, _, after = line.partition(" - ")
        yield before.split(" ", 5)[4], after.split(" ", 1)[0]


def _plain(point: str) -> Path:
    """The kernel writes blanks and the like as octal numbers."""
    return Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), point))


def of_type(kind: str) -> list[Path]:
    """The mount points of a type of file system, such as ``cgroup2``."""
    return [_plain(point) for point, found in _entries() if found == kind]


def type_at(path: Path) -> str:
    """The type of the file system that holds ``path``, which need not exist."""
    holding = ((_plain(point), kind) for point, kind in _entries())
    best = max(
        ((len(p.parts), order, kind) for order, (p, kind) in enumerate(holding) if path.is_relative_to(p)),
        default=(0, 0, ""),
    )
    return best[2]


def below(folder: Path) -> list[Path]:
    """Mount points at or below ``folder``, the latest first: the order in which they can be unmounted."""
    top = str(folder)
    found = [_plain(point) for point, _ in _entries() if point == top or point.startswith(f"{top}/")]
    return found[::-1]


def unmount_below(folder: Path) -> None:
    """Unmounts everything at or below ``folder``. Raises ``KernelError``."""
    for point in below(folder):
        libc.umount(point)


def private_tmpfs(folder: Path) -> None:
    """A tmpfs at ``folder`` for root only; what is mounted in it does not spread to other namespaces."""
    folder.mkdir(parents=True, exist_ok=True)
    libc.mount("tmpfs", folder, "tmpfs", data="mode=700")
    libc.mount("none", folder, flags=libc.MS_PRIVATE)
