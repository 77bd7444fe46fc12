"""libbpf through ctypes: its functions, and what it says when one fails."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections import deque
from pathlib import Path
from typing import Any, Final

from tulle.errors import KernelError
from tulle.kernel.prerequisites import require_libbpf

_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_POINTERS: Final = (
    "bpf_object__open_file",
    "bpf_object__next_map",
    "bpf_object__next_program",
    "bpf_map__initial_value",
    "bpf_object__btf",
    "btf__raw_data",
    "ring_buffer__new",
)


class _Library:
    """The library, opened at first use; its last words explain a failure."""

    def __init__(self) -> None:
        require_libbpf()
        self.calls = ctypes.CDLL("libbpf.so.1", use_errno=True)
        self._libc = ctypes.CDLL(None)
        self.words: deque[str] = deque(maxlen=20)
        for name in _POINTERS:
            getattr(self.calls, name).restype = ctypes.c_void_p
        for name in ("bpf_map__name", "bpf_program__name"):
            getattr(self.calls, name).restype = ctypes.c_char_p
        self._print = _PRINT(self._remember)
        self.calls.libbpf_set_print(self._print)

    def _remember(self, level: int, form: bytes, arguments: int) -> int:
        if level == 0:  # warnings; the rest is for debugging libbpf
            text = ctypes.create_string_buffer(4096)
            self._libc.vsnprintf(text, ctypes.c_size_t(len(text)), form, ctypes.c_void_p(arguments))
            self.words.append(text.value.decode(errors="replace").strip())
        return 0

    def fail(self, what: str) -> KernelError:
        told = "; ".join(self.words)
        self.words.clear()
        return KernelError(ctypes.get_errno(), f"{what} ({told})" if told else what)


_library: _Library | None = None


def library() -> _Library:
    """Opened at first use. Raises ``PrerequisiteError`` where it is not installed."""
    global _library
    if _library is None:
        _library = _Library()
    return _library


def call(what: str, function: str, *arguments: Any) -> int:
    """Calls a libbpf function that returns a number; a negative one is raised as ``KernelError``."""
    opened = library()
    opened.words.clear()
    result: int = getattr(opened.calls, function)(*arguments)
    if result < 0:
        raise opened.fail(what)
    return result


def open_pinned(path: Path) -> int:
    """The descriptor of what is pinned at ``path``. Raises ``KernelError`` (ENOENT: nothing is)."""
    return call(f"open {path}", "bpf_obj_get", os.fsencode(path))
