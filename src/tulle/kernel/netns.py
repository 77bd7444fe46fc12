"""Network namespaces: make, pin at a path, enter, remove.

A namespace lives as long as a process, an open file or a mount holds it. Here the mount at a path
that the caller chose is what holds it, as with ``ip netns``, but in the caller's own folder. A mount made
elsewhere need not be visible here, in a mount namespace of our own; then process 1's view counts.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tulle.errors import KernelError
from tulle.kernel import libc

_OWN = Path("/proc/thread-self/ns/net")
SO_NETNS_COOKIE = 71
_AS_INIT_SEES_IT = Path("/proc/1/root")


def create(path: Path) -> None:
    """Makes a network namespace and pins it at ``path``.

    Raises ``KernelError`` when the kernel refuses, ``FileExistsError`` when the path is taken.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o444, exist_ok=False)
    failure: list[KernelError] = []

    def make() -> None:  # a thread of its own, so that the caller stays where it is
        try:
            libc.unshare(libc.CLONE_NEWNET)
            libc.mount(str(_OWN), path, flags=libc.MS_BIND)
        except KernelError as error:
            failure.append(error)

    thread = threading.Thread(target=make, name=f"netns {path.name}")
    thread.start()
    thread.join()
    if failure:
        path.unlink()
        raise failure[0]


def delete(path: Path) -> None:
    """Unpins the namespace at ``path``; nothing happens when there is none."""
    with suppress(KernelError):
        libc.umount(path)
    path.unlink(missing_ok=True)


@contextmanager
def entered(path: Path) -> Iterator[int]:
    """The calling thread is in the namespace at ``path`` within the block, and back after it.

    Yields a descriptor of the namespace that it comes from, open within the block. The block must not
    await: another task of the thread would run in the foreign namespace. Raises ``FileNotFoundError``
    when nothing is at ``path``, ``KernelError`` (EINVAL) when it is no network namespace.
    """
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(_visible(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc.setns(there, libc.CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield home
        finally:
            libc.setns(home, libc.CLONE_NEWNET)
    finally:
        os.close(home)


def own_cookie() -> int:
    """The number by which eBPF programs know the network namespace that the calling thread is in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)


def cookie(path: Path) -> int:
    """That of the namespace at ``path``. Raises as ``entered`` does."""
    with entered(path):
        return own_cookie()


def exists(path: Path) -> bool:
    """Whether a namespace is at ``path``."""
    return _is_namespace(_visible(path))


def _visible(path: Path) -> Path:
    """``path``, or where process 1 sees it if only there a namespace is at it."""
    outside = _AS_INIT_SEES_IT / path.resolve().relative_to("/")
    return outside if not _is_namespace(path) and _is_namespace(outside) else path


def _is_namespace(path: Path) -> bool:
    """A file of the filesystem that holds namespaces, and nothing else."""
    try:
        return path.stat().st_dev == _OWN.stat().st_dev
    except OSError:
        return False


def is_own(path: Path) -> bool:
    """Whether the namespace at ``path`` is the one that the calling thread is in. Raises ``OSError``."""
    return _visible(path).stat().st_ino == _OWN.stat().st_ino
