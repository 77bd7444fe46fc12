"""libbpf through ctypes: load objects, pin their maps, attach programs with tcx links."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tulle.errors import KernelError
from tulle.kernel.btf import Contract
from tulle.kernel.prerequisites import require_libbpf

BPF_TCX_INGRESS: Final = 46
BPF_TCX_EGRESS: Final = 47
BPF_ANY: Final = 0
BPF_MAP_TYPE_PERCPU_ARRAY: Final = 6

_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
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
        text = ctypes.create_string_buffer(4096)
        self._libc.vsnprintf(text, ctypes.c_size_t(len(text)), form, ctypes.c_void_p(arguments))
        if level == 0:  # warnings; the rest is for debugging libbpf
            self.words.append(text.value.decode(errors="replace").strip())
        return 0

    def fail(self, what: str) -> KernelError:
        told = "; ".join(self.words)
        self.words.clear()
        return KernelError(ctypes.get_errno(), f"{what} ({told})" if told else what)


_library: _Library | None = None


def _lib() -> _Library:
    global _library
    if _library is None:
        _library = _Library()
    return _library


def _call(what: str, function: str, *arguments: Any) -> int:
    """Calls a libbpf function that returns a number; a negative one is raised as ``KernelError``."""
    library = _lib()
    library.words.clear()
    result: int = getattr(library.calls, function)(*arguments)
    if result < 0:
        raise library.fail(what)
    return result


def _contract(handle: ctypes.c_void_p) -> Contract:
    """The types of an opened object; libbpf has filled in where the variables lie."""
    calls = _lib().calls
    size = ctypes.c_uint32()
    data = calls.btf__raw_data(ctypes.c_void_p(calls.bpf_object__btf(handle)), ctypes.byref(size))
    return Contract(ctypes.string_at(data, size.value))


class Map:
    """A map, by its descriptor; keys and values are bytes of the sizes that the contract gives."""

    def __init__(self, fd: int, value_size: int, name: str = "") -> None:
        self.fd = fd
        self.value_size = value_size
        self.name = name

    @property
    def most(self) -> int:
        """How many entries fit in."""
        told = Path(f"/proc/self/fdinfo/{self.fd}").read_text()
        return int(told.partition("max_entries:")[2].split()[0])

    def __setitem__(self, key: bytes, value: bytes) -> None:
        _call(f"update map {self.name}", "bpf_map_update_elem", self.fd, key, value, ctypes.c_uint64(BPF_ANY))

    def __delitem__(self, key: bytes) -> None:
        """Raises ``KernelError`` ENOENT when the key is not there."""
        _call(f"delete from map {self.name}", "bpf_map_delete_elem", self.fd, key)

    def get(self, key: bytes) -> bytes | None:
        value = ctypes.create_string_buffer(self.value_size)
        try:
            _call(f"look up in map {self.name}", "bpf_map_lookup_elem", self.fd, key, value)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return value.raw

    def discard(self, key: bytes) -> None:
        """Deletes the key; nothing happens when it is not there."""
        try:
            del self[key]
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise

    def update_all(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Writes many entries by one system call. Raises ``KernelError``; the first may be written then."""
        if not keys:
            return
        count = ctypes.c_uint32(len(keys))
        _call(
            f"update map {self.name}",
            "bpf_map_update_batch",
            self.fd,
            b"".join(keys),
            b"".join(values),
            ctypes.byref(count),
            None,
        )

    def discard_all(self, keys: Sequence[bytes]) -> None:
        """Deletes many keys by one system call. One that is not there is passed over."""
        while keys:
            count = ctypes.c_uint32(len(keys))
            try:
                _call(
                    f"delete from map {self.name}",
                    "bpf_map_delete_batch",
                    self.fd,
                    b"".join(keys),
                    ctypes.byref(count),
                    None,
                )
                return
            except KernelError as error:
                if error.errno != errno.ENOENT:
                    raise
                keys = keys[count.value + 1 :]

    def items(self, key_size: int) -> dict[bytes, bytes]:
        """All entries of a hash map, many by each system call; what comes or goes meanwhile may be missed."""
        found: dict[bytes, bytes] = {}
        token, most = ctypes.create_string_buffer(8), 4096
        follows = None
        while True:
            keys = ctypes.create_string_buffer(key_size * most)
            values = ctypes.create_string_buffer(self.value_size * most)
            count = ctypes.c_uint32(most)
            number = _lib().calls.bpf_map_lookup_batch(
                self.fd, follows, token, keys, values, ctypes.byref(count), None
            )
            if number == -errno.ENOSPC:  # a bucket of the map holds more than fits
                most *= 2
                continue
            if number and number != -errno.ENOENT:
                raise KernelError(-number, f"list map {self.name}")
            raw_keys, raw_values = keys.raw, values.raw
            for i in range(count.value):
                key = raw_keys[i * key_size : (i + 1) * key_size]
                found[key] = raw_values[i * self.value_size : (i + 1) * self.value_size]
            if number:
                return found
            follows = token

    def keys(self, size: int) -> Iterator[bytes]:
        """All keys, each of ``size`` bytes; those that come or go meanwhile may be missed."""
        key, following = None, ctypes.create_string_buffer(size)
        while _lib().calls.bpf_map_get_next_key(self.fd, key, following) == 0:
            key = following.raw
            yield key


def open_pinned(path: Path) -> int:
    """The descriptor of what is pinned at ``path``. Raises ``KernelError`` (ENOENT: nothing is)."""
    return _call(f"open {path}", "bpf_obj_get", os.fsencode(path))


class BpfObject:
    """An object file: opened, its ``contract`` can be read; loaded, its ``maps`` and ``programs`` used.

    Raises ``KernelError`` with libbpf's own explanation.
    """

    def __init__(self, path: Path) -> None:
        library = _lib()
        self._handle = ctypes.c_void_p(library.calls.bpf_object__open_file(os.fsencode(path), None))
        if not self._handle:
            raise library.fail(f"open {path}")
        self.contract = _contract(self._handle)
        self._path = path
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, int] = {}

    def load(self, pins: Path, settings: Mapping[str, bytes]) -> None:
        """Loads it with these settings (``bpf/config.h``) and pins its maps in ``pins`` under their names.

        Maps that are pinned there already are used as they are: what the kernel knows outlives an agent.
        """
        calls = _lib().calls
        maps = dict(self._each("map"))
        for name, handle in maps.items():
            self._prepare(name, handle, pins, settings)
        _call(f"load {self._path.name}", "bpf_object__load", self._handle)
        self.maps = {n: Map(calls.bpf_map__fd(h), _value_size(h), n) for n, h in maps.items()}
        self.programs = {n: calls.bpf_program__fd(h) for n, h in self._each("program")}

    def _each(self, what: str) -> Iterator[tuple[str, ctypes.c_void_p]]:
        calls = _lib().calls
        following: Callable[..., int | None] = getattr(calls, f"bpf_object__next_{what}")
        name: Callable[..., bytes] = getattr(calls, f"bpf_{what}__name")
        handle = following(self._handle, None)
        while handle:
            pointer = ctypes.c_void_p(handle)
            yield name(pointer).decode(), pointer
            handle = following(self._handle, pointer)

    def _prepare(self, name: str, handle: ctypes.c_void_p, pins: Path, settings: Mapping[str, bytes]) -> None:
        calls = _lib().calls
        if not name.endswith(".rodata"):
            _call(f"pin map {name}", "bpf_map__set_pin_path", handle, os.fsencode(pins / name))
            return
        size = ctypes.c_size_t()
        data = calls.bpf_map__initial_value(handle, ctypes.byref(size))
        section = self.contract.settings(settings, ctypes.string_at(data, size.value))
        _call(
            "set the settings", "bpf_map__set_initial_value", handle, section, ctypes.c_size_t(len(section))
        )

    def close(self) -> None:
        """Frees the descriptors; what is pinned or attached stays."""
        _lib().calls.bpf_object__close(self._handle)


def _value_size(handle: ctypes.c_void_p) -> int:
    """What a lookup fills, in bytes: with a per-CPU map, a value for each CPU that there could be."""
    calls = _lib().calls
    size: int = calls.bpf_map__value_size(handle)
    return size if calls.bpf_map__type(handle) != BPF_MAP_TYPE_PERCPU_ARRAY else _on_each_cpu(size)


def _on_each_cpu(size: int) -> int:
    return (size + 7 & ~7) * _call("count the CPUs", "libbpf_num_possible_cpus")


def open_map(pin: Path, value_size: int) -> Map:
    """A pinned map."""
    return Map(open_pinned(pin), value_size, pin.name)


def open_per_cpu(pin: Path, value_size: int) -> Map:
    """A pinned per-CPU map; a lookup gives the values of all CPUs, one behind the other."""
    return Map(open_pinned(pin), _on_each_cpu(value_size), pin.name)


def attach(program: int, target: int, kind: int, pin: Path) -> None:
    """Attaches a program by a link pinned at ``pin``: to a device (``BPF_TCX_INGRESS`` or ``BPF_TCX_EGRESS``
    with its index) or to a cgroup (a ``BPF_CGROUP_*`` of ``linux/bpf.h`` with a descriptor of its folder).

    A link that is pinned there already is given the new program in place, without a packet lost; one
    whose device is gone is replaced.
    """
    if pin.exists():
        link = open_pinned(pin)
        try:
            _call(f"swap the program of {pin.name}", "bpf_link_update", link, program, None)
        except KernelError as error:
            if error.errno != errno.ENOLINK:
                raise
            pin.unlink()
        else:
            return
        finally:
            os.close(link)
    link = _call(f"attach {pin.name}", "bpf_link_create", program, target, kind, None)
    try:
        _call(f"pin {pin}", "bpf_obj_pin", link, os.fsencode(pin))
    finally:
        os.close(link)


class RingBuffer:
    """Reads a ring buffer map; ``fileno`` is readable while there is something to consume."""

    MOST: Final = 256
    """Samples that are handed over at once: whoever fills the buffer faster than it is read would never
    let the reader go."""

    def __init__(self, fd: int, consumer: Callable[[bytes], None]) -> None:
        def sample(_context: int, data: int, size: int) -> int:
            consumer(ctypes.string_at(data, size))
            self._left -= 1
            return 0 if self._left else -errno.EAGAIN  # ends the reading; this sample counts as read

        self._left = self.MOST
        self._sample = _SAMPLE(sample)  # kept: libbpf calls it for as long as the buffer is open
        self._handle = ctypes.c_void_p(_lib().calls.ring_buffer__new(fd, self._sample, None, None))
        if not self._handle:
            raise _lib().fail("open the ring buffer")

    def fileno(self) -> int:
        return _call("watch the ring buffer", "ring_buffer__epoll_fd", self._handle)

    def consume(self) -> bool:
        """Hands what is there to the consumer, at most ``MOST`` samples; whether that was all."""
        self._left = self.MOST
        failed = _lib().calls.ring_buffer__consume(self._handle) < 0
        if failed and self._left:
            raise _lib().fail("read the ring buffer")
        return bool(self._left)

    def close(self) -> None:
        _lib().calls.ring_buffer__free(self._handle)
