"""Unpacks an image layer in the form that overlayfs wants (OCI image specification, layer.md)."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from pathlib import Path, PurePosixPath
from typing import Final

from tulle.errors import LabError

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"


def unpack(layer: tarfile.TarFile, root: Path) -> None:
    """Writes all members below ``root``. Raises ``LabError`` for one that would land elsewhere."""
    for member in layer:
        path = _inside(root, member.name)
        if path == root:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name == _OPAQUE:
            os.setxattr(path.parent, "trusted.overlay.opaque", b"y")
        elif path.name.startswith(_WHITEOUT):
            os.mknod(path.with_name(path.name.removeprefix(_WHITEOUT)), stat.S_IFCHR)
        else:
            _write(layer, member, path, root)


def _inside(root: Path, name: str) -> Path:
    """``root/name``. Neither ``..`` nor a link on the way may lead out."""
    path = root
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".")]
    for part in parts:
        if part == ".." or path.is_symlink():
            raise LabError(f"the layer is refused: {name!r} may lead out of the image")
        path /= part
    return path


def _write(layer: tarfile.TarFile, member: tarfile.TarInfo, path: Path, root: Path) -> None:
    if not (member.isdir() and path.is_dir() and not path.is_symlink()):
        _clear(path)
        _make(layer, member, path, root)
    if member.islnk():
        return
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        path.chmod(member.mode)
        os.utime(path, (member.mtime, member.mtime))


def _clear(path: Path) -> None:
    """A later member takes the place of an earlier one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make(layer: tarfile.TarFile, member: tarfile.TarInfo, path: Path, root: Path) -> None:
    if member.isdir():
        path.mkdir()
    elif member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        os.link(_inside(root, member.linkname), path, follow_symlinks=False)
    elif member.isfifo():
        os.mkfifo(path)
    elif member.ischr() or member.isblk():
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
    else:
        source = layer.extractfile(member)
        if source is None:
            raise LabError(f"the layer is refused: {member.name!r} is of an unknown kind")
        with source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
