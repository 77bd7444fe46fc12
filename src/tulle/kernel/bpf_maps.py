"""eBPF maps and ring buffers."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tulle.errors import KernelError
from tulle.kernel.libbpf import call, library, open_pinned

BPF_ANY: Final = 0

Buffer = ctypes.Array[ctypes.c_char]
_SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


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

    @contextmanager
    def mapped(self, start: int, length: int) -> Iterator[memoryview]:
        """Bytes of the values of an array with ``BPF_F_MMAPABLE``, which lie one behind the other.

        For as long as it is needed, and no more than that: all that is mapped counts as this process' memory.
        Raises ``KernelError``.
        """
        before = start % mmap.ALLOCATIONGRANULARITY
        try:
            memory = mmap.mmap(self.fd, before + length, offset=start - before)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"map the memory of map {self.name}") from error
        with memory, memoryview(memory)[before:] as view:
            yield view

    def __setitem__(self, key: bytes, value: bytes) -> None:
        call(f"update map {self.name}", "bpf_map_update_elem", self.fd, key, value, ctypes.c_uint64(BPF_ANY))

    def __delitem__(self, key: bytes) -> None:
        """Raises ``KernelError`` ENOENT when the key is not there."""
        call(f"delete from map {self.name}", "bpf_map_delete_elem", self.fd, key)

    def get(self, key: bytes) -> bytes | None:
        value = ctypes.create_string_buffer(self.value_size)
        try:
            call(f"look up in map {self.name}", "bpf_map_lookup_elem", self.fd, key, value)
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
        call(
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
                call(
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
        for count, keys, values in self._batches(key_size):
            raw_keys, raw_values = keys.raw, values.raw
            for i in range(count):
                key = raw_keys[i * key_size : (i + 1) * key_size]
                found[key] = raw_values[i * self.value_size : (i + 1) * self.value_size]
        return found

    def count(self, key_size: int) -> int:
        """How many entries a hash map has; the kernel itself keeps no count."""
        return sum(count for count, _, _ in self._batches(key_size))

    def _batches(self, key_size: int) -> Iterator[tuple[int, Buffer, Buffer]]:
        """How many keys and values are at the beginning of the two buffers."""
        token, most = ctypes.create_string_buffer(8), 4096
        follows = None
        while True:
            keys = ctypes.create_string_buffer(key_size * most)
            values = ctypes.create_string_buffer(self.value_size * most)
            count = ctypes.c_uint32(most)
            number = library().calls.bpf_map_lookup_batch(
                self.fd, follows, token, keys, values, ctypes.byref(count), None
            )
            if number == -errno.ENOSPC:  # a bucket of the map holds more than fits
                most *= 2
                continue
            if number and number != -errno.ENOENT:
                raise KernelError(-number, f"list map {self.name}")
            yield count.value, keys, values
            if number:
                return
            follows = token

    def keys(self, size: int) -> Iterator[bytes]:
        """All keys, each of ``size`` bytes; those that come or go meanwhile may be missed."""
        key, following = None, ctypes.create_string_buffer(size)
        while library().calls.bpf_map_get_next_key(self.fd, key, following) == 0:
            key = following.raw
            yield key


def on_each_cpu(size: int) -> int:
    """What a lookup in a per-CPU map fills, in bytes: a value for each CPU that there could be."""
    return (size + 7 & ~7) * call("count the CPUs", "libbpf_num_possible_cpus")


def open_map(pin: Path, value_size: int) -> Map:
    """A pinned map."""
    return Map(open_pinned(pin), value_size, pin.name)


def capacity(pin: Path) -> int:
    """How many entries fit into a pinned map."""
    table = open_map(pin, 0)
    try:
        return table.most
    finally:
        os.close(table.fd)


def open_per_cpu(pin: Path, value_size: int) -> Map:
    """A pinned per-CPU map; a lookup gives the values of all CPUs, one behind the other."""
    return Map(open_pinned(pin), on_each_cpu(value_size), pin.name)


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
        self._handle = ctypes.c_void_p(library().calls.ring_buffer__new(fd, self._sample, None, None))
        if not self._handle:
            raise library().fail("open the ring buffer")

    def fileno(self) -> int:
        return call("watch the ring buffer", "ring_buffer__epoll_fd", self._handle)

    def consume(self) -> bool:
        """Hands what is there to the consumer, at most ``MOST`` samples; whether that was all."""
        self._left = self.MOST
        failed = library().calls.ring_buffer__consume(self._handle) < 0
        if failed and self._left:
            raise library().fail("read the ring buffer")
        return bool(self._left)

    def close(self) -> None:
        library().calls.ring_buffer__free(self._handle)
