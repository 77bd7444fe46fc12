"""The real programs on one packet at a time (BPF_PROG_TEST_RUN).

The kernel runs a program on a packet of ours and gives back what became of it. It redirects nothing,
but devices are looked up, so all of this happens in a network namespace with devices of its own.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tulle.kernel import netns
from tulle.kernel.bpf_maps import RingBuffer
from tulle.kernel.bpf_objects import BpfObject
from tulle.kernel.bpf_run import RunOptions
from tulle.kernel.btf import Contract

TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT = 0xFFFFFFFF, 2, 7
MARK_AT, IFINDEX_AT, SK_BUFF_SIZE = 8, 40, 192  # in struct __sk_buff, linux/bpf.h
LARGEST_PACKET = 1 << 14


def object_path(name: str) -> Path:
    return Path(str(files("tulle"))) / "_native" / f"{name}.bpf.o"


def run_program(
    program: int, packet: bytes, ifindex: int, mark: int, repeat: int = 1
) -> tuple[int, bytes, int]:
    """(action, packet, mark) after one run. ``ifindex`` is in the calling thread's network namespace."""
    context = bytearray(SK_BUFF_SIZE)
    struct.pack_into("=I", context, MARK_AT, mark)
    struct.pack_into("=I", context, IFINDEX_AT, ifindex)
    data, after = ctypes.create_string_buffer(LARGEST_PACKET), ctypes.create_string_buffer(1024)
    options = RunOptions(
        size=ctypes.sizeof(RunOptions),
        data_in=packet,
        data_size_in=len(packet),
        data_out=ctypes.addressof(data),
        data_size_out=len(data),
        ctx_in=bytes(context),
        ctx_size_in=len(context),
        ctx_out=ctypes.addressof(after),
        ctx_size_out=len(after),
        repeat=repeat,
    )
    failed = ctypes.CDLL("libbpf.so.1").bpf_prog_test_run_opts(program, ctypes.byref(options))
    assert not failed, f"BPF_PROG_TEST_RUN: {failed}"
    return options.retval, data.raw[: options.data_size_out], struct.unpack_from("=I", after, MARK_AT)[0]


@dataclass(frozen=True)
class Outcome:
    """What a program did with a packet; ``counted`` is (packets, bytes) by hook and reason."""

    action: int
    packet: bytes
    mark: int
    counted: dict[tuple[str, str], tuple[int, int]]
    events: list[Any]


class Programs:
    """Both objects, loaded, with maps of their own; ``home`` is the namespace that has the devices."""

    def __init__(self, pins: Path, home: Path) -> None:
        objects = [BpfObject(object_path(name)) for name in ("pod", "uplink", "socket")]
        for each in objects:
            each.load(pins, {}, {"flows": 16384, "source_ranges": 2048})
        self._objects = objects
        self.pins = pins
        self.home = home
        self.fds = {name: fd for each in objects for name, fd in each.programs.items()}
        self._events: list[Any] = []
        self.contract: Contract = objects[0].contract
        self.maps = objects[0].maps
        self._ring = RingBuffer(self.maps["drops"].fd, self._remember)

    def _remember(self, data: bytes) -> None:
        self._events.append(self.contract.unpack("drop_event", data))

    def close(self) -> None:
        self._ring.close()
        for each in self._objects:
            each.close()

    def run(self, program: str, packet: bytes, ifindex: int, mark: int = 0) -> Outcome:
        before = dict(self._counters())
        with netns.entered(self.home):
            action, after, new_mark = run_program(self.fds[program], packet, ifindex, mark)
        counted = {
            key: (now[0] - before[key][0], now[1] - before[key][1])
            for key, now in self._counters()
            if now != before[key]
        }
        self._ring.consume()
        events, self._events = self._events, []
        return Outcome(action, after, new_mark, counted, events)

    def flood(self, program: str, packet: bytes, ifindex: int, times: int) -> tuple[bool, int]:
        """One read of the ring buffer after ``times`` packets: whether that was all, and how many events."""
        with netns.entered(self.home):
            run_program(self.fds[program], packet, ifindex, 0, times)
        everything = self._ring.consume()
        events, self._events = self._events, []
        return everything, len(events)

    def _counters(self) -> Iterator[tuple[tuple[str, str], tuple[int, int]]]:
        hooks, reasons = list(self.contract.enums["hook"]), list(self.contract.enums["reason"])
        for key, value in self.maps["counters"].items(4).items():
            hook, reason = divmod(int.from_bytes(key, sys.byteorder), len(reasons) - 1)
            each = list(struct.iter_unpack("=QQ", value))
            yield (hooks[hook].name, reasons[reason].name), (sum(c[0] for c in each), sum(c[1] for c in each))
