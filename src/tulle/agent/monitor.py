"""Tells when links go and when addresses change, as the kernel announces it."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable

from tulle.errors import KernelError
from tulle.kernel.netlink import Netlink
from tulle.kernel.rtnetlink import (
    RTM_DELLINK,
    RTM_NEWLINK,
    RTMGRP_ADDRESSES,
    RTMGRP_LINK,
    SCOPE_LINK,
    address_scope,
    parse_link,
)

log = logging.getLogger(__name__)


class LinkMonitor:
    """Watches the network namespace that it is made in.

    ``on_gone(name)`` is called for each link that went, ``on_change()`` for every other change of links
    and addresses, also when announcements were lost. What making a Pod's link changes is not told: links
    with names of ours, and addresses that are good on their own link only, which no node is known by.
    """

    def __init__(self, on_gone: Callable[[str], None], on_change: Callable[[], None]) -> None:
        self._netlink = Netlink(RTMGRP_LINK | RTMGRP_ADDRESSES)
        self._on_gone = on_gone
        self._on_change = on_change
        self._awaited: dict[str, asyncio.Event] = {}

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._netlink.fileno(), self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._netlink.fileno())
        self._netlink.close()

    def gone(self, name: str) -> asyncio.Event:
        """An event that is set once the link of this name is gone; asked for before it goes."""
        return self._awaited.setdefault(name, asyncio.Event())

    def forget(self, name: str) -> None:
        """Nobody waits for this link any more."""
        self._awaited.pop(name, None)

    def _read(self) -> None:
        try:
            messages = list(self._netlink.receive())
        except KernelError as error:
            if error.errno != errno.ENOBUFS:
                raise
            log.warning("the kernel announced more changes than could be read; all is compared anew")
            self._on_change()
            return
        for kind, _, body in messages:
            if kind == RTM_DELLINK:
                self._handle_gone(parse_link(body).name)
            elif not _is_ours(kind, body):
                self._on_change()

    def _handle_gone(self, name: str) -> None:
        if event := self._awaited.pop(name, None):
            event.set()
        else:
            self._on_gone(name)


def _is_ours(kind: int, body: bytes) -> bool:
    if kind == RTM_NEWLINK:
        return parse_link(body).name.startswith("tul")
    return address_scope(body) == SCOPE_LINK
