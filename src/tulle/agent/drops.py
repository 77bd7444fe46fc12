"""Tells the log of dropped packets: who, whom and why. The counters have them all; the log has samples."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from tulle.kernel.btf import Contract
from tulle.model.address import from_bytes
from tulle.pod_to_pod.datapath import Datapath

log = logging.getLogger(__name__)

_QUIET: Final = 10 * 10**9  # ns between two lines about the same reason on the same link
_PAUSE: Final = 0.5  # seconds without reading after more than could be read at once
_MOST: Final = 1024


class DropLog:
    """One line for the first of its kind, then at most one in ten seconds with the number in between."""

    def __init__(self, contract: Contract) -> None:
        self._reasons = contract.enums["reason"]
        self._hooks = contract.enums["hook"]
        self._told: dict[tuple[int, int], tuple[int, int]] = {}

    def __call__(self, event: Any) -> None:
        kind = (event.reason, event.ifindex)
        last, unsaid = self._told.get(kind, (-_QUIET, 0))
        if event.time - last < _QUIET:
            self._told[kind] = (last, unsaid + 1)
            return
        if len(self._told) >= _MOST:
            self._told.clear()
        self._told[kind] = (event.time, 0)
        more = f" ({unsaid} more like it)" if unsaid else ""
        log.warning("dropped: %s%s", self.describe(event), more)

    def describe(self, event: Any) -> str:
        """``drop_spoofed_source at from_pod on tul…: 10.0.0.9 port 80 -> 10.1.0.2 port 99 protocol 6``."""
        flow = event.flow
        source, destination = from_bytes(bytes(flow.source)), from_bytes(bytes(flow.destination))
        link = str(event.ifindex)
        with suppress(OSError):
            link = socket.if_indextoname(event.ifindex)
        reason = self._reasons(event.reason).name.lower()
        hook = self._hooks(event.hook).name.removeprefix("HOOK_").lower()
        ports = socket.ntohs(flow.source_port), socket.ntohs(flow.destination_port)
        return (
            f"{reason} at {hook} on {link}: "
            f"{source} port {ports[0]} -> {destination} port {ports[1]} protocol {flow.protocol}"
        )


@contextmanager
def logging_drops(datapath: Datapath) -> Iterator[None]:
    """Drops are logged within the block; a flood of them is read in sips, lest nothing else is done."""
    ring = datapath.drops(DropLog(datapath.contract))
    loop = asyncio.get_running_loop()
    descriptor = ring.fileno()
    pause: asyncio.TimerHandle | None = None

    def resume() -> None:
        loop.add_reader(descriptor, read)

    def read() -> None:
        nonlocal pause
        if not ring.consume():
            loop.remove_reader(descriptor)
            pause = loop.call_later(_PAUSE, resume)

    resume()
    try:
        yield
    finally:
        if pause:
            pause.cancel()
        loop.remove_reader(descriptor)
        ring.close()
