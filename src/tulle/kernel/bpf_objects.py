"""eBPF objects: load them, pin their maps, attach their programs by links."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from tulle.errors import KernelError
from tulle.kernel.bpf_maps import Map, on_each_cpu
from tulle.kernel.btf import Contract
from tulle.kernel.libbpf import call, library, open_pinned

BPF_TCX_INGRESS: Final = 46
BPF_TCX_EGRESS: Final = 47
BPF_MAP_TYPE_PERCPU_ARRAY: Final = 6


def _contract(handle: ctypes.c_void_p) -> Contract:
    """The types of an opened object; libbpf has filled in where the variables lie."""
    calls = library().calls
    size = ctypes.c_uint32()
    data = calls.btf__raw_data(ctypes.c_void_p(calls.bpf_object__btf(handle)), ctypes.byref(size))
    return Contract(ctypes.string_at(data, size.value))


class BpfObject:
    """An object file: opened, its ``contract`` can be read; loaded, its ``maps`` and ``programs`` used.

    Raises ``KernelError`` with libbpf's own explanation.
    """

    def __init__(self, path: Path) -> None:
        opened = library()
        self._handle = ctypes.c_void_p(opened.calls.bpf_object__open_file(os.fsencode(path), None))
        if not self._handle:
            raise opened.fail(f"open {path}")
        self.contract = _contract(self._handle)
        self._path = path
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, int] = {}

    def load(self, pins: Path, settings: Mapping[str, bytes], sizes: Mapping[str, int]) -> None:
        """Loads it with these settings (``bpf/config.h``) and pins its maps in ``pins`` under their names.

        ``sizes``: how many entries fit into a map, if not as many as ``bpf/maps.h`` says. Maps that are
        pinned there already are used as they are, and must have that size: what the kernel knows outlives
        an agent.
        """
        calls = library().calls
        maps = dict(self._each("map"))
        for name, handle in maps.items():
            if name in sizes:
                size = ctypes.c_uint32(sizes[name])
                call(f"set the size of map {name}", "bpf_map__set_max_entries", handle, size)
            self._prepare(name, handle, pins, settings)
        call(f"load {self._path.name}", "bpf_object__load", self._handle)
        self.maps = {n: Map(calls.bpf_map__fd(h), _value_size(h), n) for n, h in maps.items()}
        self.programs = {n: calls.bpf_program__fd(h) for n, h in self._each("program")}

    def _each(self, what: str) -> Iterator[tuple[str, ctypes.c_void_p]]:
        calls = library().calls
        following: Callable[..., int | None] = getattr(calls, f"bpf_object__next_{what}")
        name: Callable[..., bytes] = getattr(calls, f"bpf_{what}__name")
        handle = following(self._handle, None)
        while handle:
            pointer = ctypes.c_void_p(handle)
            yield name(pointer).decode(), pointer
            handle = following(self._handle, pointer)

    def _prepare(self, name: str, handle: ctypes.c_void_p, pins: Path, settings: Mapping[str, bytes]) -> None:
        calls = library().calls
        if not name.endswith(".rodata"):
            call(f"pin map {name}", "bpf_map__set_pin_path", handle, os.fsencode(pins / name))
            return
        size = ctypes.c_size_t()
        data = calls.bpf_map__initial_value(handle, ctypes.byref(size))
        section = self.contract.settings(settings, ctypes.string_at(data, size.value))
        call("set the settings", "bpf_map__set_initial_value", handle, section, ctypes.c_size_t(len(section)))

    def close(self) -> None:
        """Frees the descriptors; what is pinned or attached stays."""
        library().calls.bpf_object__close(self._handle)


def _value_size(handle: ctypes.c_void_p) -> int:
    """What a lookup fills, in bytes: with a per-CPU map, a value for each CPU that there could be."""
    calls = library().calls
    size: int = calls.bpf_map__value_size(handle)
    return size if calls.bpf_map__type(handle) != BPF_MAP_TYPE_PERCPU_ARRAY else on_each_cpu(size)


def attach(program: int, target: int, kind: int, pin: Path) -> None:
    """Attaches a program by a link pinned at ``pin``: to a device (``BPF_TCX_INGRESS`` or ``BPF_TCX_EGRESS``
    with its index) or to a cgroup (a ``BPF_CGROUP_*`` of ``linux/bpf.h`` with a descriptor of its folder).

    A link that is pinned there already is given the new program in place, without a packet lost; one
    whose device is gone is replaced.
    """
    if pin.exists():
        link = open_pinned(pin)
        try:
            call(f"swap the program of {pin.name}", "bpf_link_update", link, program, None)
        except KernelError as error:
            if error.errno != errno.ENOLINK:
                raise
            pin.unlink()
        else:
            return
        finally:
            os.close(link)
    link = call(f"attach {pin.name}", "bpf_link_create", program, target, kind, None)
    try:
        call(f"pin {pin}", "bpf_obj_pin", link, os.fsencode(pin))
    finally:
        os.close(link)
