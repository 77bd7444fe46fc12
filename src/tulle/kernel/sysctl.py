"""Settings below ``/proc/sys``; those of ``net`` are the calling thread's network namespace's own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tulle.errors import KernelError

_ROOT = Path("/proc/sys")


def read(name: str) -> str:
    """The value, by a name like ``net/ipv4/ip_forward``. Raises ``FileNotFoundError``."""
    return (_ROOT / name).read_text().strip()


def write(name: str, value: str | int) -> None:
    """Sets the value. Raises ``KernelError`` when the kernel or a read-only ``/proc/sys`` refuses."""
    try:
        with (_ROOT / name).open("wb", buffering=0) as file:
            file.write(str(value).encode())
    except OSError as error:
        raise KernelError(error.errno or 0, f"set {name.replace('/', '.')} to {value}") from error


def ensure(name: str, value: str | int) -> None:
    """Sets the value unless it is that already, so that a read-only ``/proc/sys`` may do, too."""
    with suppress(FileNotFoundError):
        if read(name) == str(value):
            return
    write(name, value)
