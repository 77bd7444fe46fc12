"""Waiting for a change of a file or folder (``man 7 inotify``)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final, Self

from tulle.errors import KernelError

_MODIFY, _MOVED_TO, _CREATE, _DELETE, _CLOSE_WRITE = 0x2, 0x80, 0x100, 0x200, 0x8
_MASK: Final = _MODIFY | _MOVED_TO | _CREATE | _DELETE | _CLOSE_WRITE
_BUFFER: Final = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Changes count from the moment that it is made, so none is missed between looking and waiting."""

    def __init__(self, path: Path) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0 or _libc.inotify_add_watch(self._fd, os.fsencode(path), _MASK) < 0:
            raise KernelError(ctypes.get_errno(), f"watch {path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    async def changed(self, timeout: float | None = None) -> bool:
        """Waits for a change; False when there was none for ``timeout`` seconds."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            async with asyncio.timeout(timeout):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._fd)
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, _BUFFER)
        return True
