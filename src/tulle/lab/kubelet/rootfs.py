"""A container's root: the image's layers, or the machine's own root, below a writable layer."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tulle.errors import ConfigError
from tulle.kernel import libc, mounts
from tulle.lab.kubelet.images import Image

MACHINE_TMPFS: Final = ("/tmp", "/run", "/var/tmp")
"""Folders of the machine that its containers see empty: the lab's secrets, and what is nobody's business."""


def mount(folder: Path, image: Image, targets: Iterable[str]) -> Path:
    """Mounts the root at ``folder/rootfs``, with an empty file at each of ``targets``, to bind others over.

    The image's own may be a link that leads nowhere within the container, as ``/etc/resolv.conf`` often is.
    """
    if (folder / "rootfs").exists():
        unmount(folder)
    upper, work, root = folder / "upper", folder / "work", folder / "rootfs"
    for path in (upper, work, root):
        path.mkdir(parents=True)
        path.chmod(0o755)
    for name in targets:
        file = upper / name.lstrip("/")
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        file.touch(mode=0o644)
    lower = ":".join(str(layer) for layer in reversed(image.layers))
    libc.mount("overlay", root, "overlay", data=f"lowerdir={lower},upperdir={upper},workdir={work}")
    return root


def unmount(folder: Path) -> None:
    """Also throws the writable layer away."""
    mounts.unmount_below(folder / "rootfs")
    for name in ("upper", "work", "rootfs"):
        shutil.rmtree(folder / name, ignore_errors=True)


def user(root: Path, text: str) -> tuple[int, int]:
    """(uid, gid) of an image's ``user[:group]``, by number or by the image's own passwd and group files.

    Raises ``ConfigError`` for a name that the image does not know.
    """
    name, _, group = text.partition(":")
    uid, gid = (0, 0) if not name else _account(root, name)
    if group:
        gid = int(group) if group.isdecimal() else int(_entry(root / "etc/group", group, 2, "group")[2])
    return uid, gid


def _account(root: Path, name: str) -> tuple[int, int]:
    if name.isdecimal():
        return int(name), 0
    entry = _entry(root / "etc/passwd", name, 4, "user")
    return int(entry[2]), int(entry[3])


def _entry(file: Path, name: str, fields: int, what: str) -> list[str]:
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    for line in lines:
        entry = line.split(":")
        if entry[0] == name and len(entry) > fields - 1:
            return entry
    raise ConfigError(f"the image has no {what} {name!r}; give a number in securityContext.runAsUser")
