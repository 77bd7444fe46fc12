"""Keeps exactly those sockets listening that are wanted."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import NamedTuple

from tulle.model.address import Address
from tulle.telemetry.http import Handler, Server

_BACKLOG = 64
_PLACE = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<v4>[^:]*)):(?P<port>[0-9]{1,5})")


class Place(NamedTuple):
    """Where to listen. 0.0.0.0 and :: both stand for all addresses of both families, as for kube-proxy."""

    address: Address
    port: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if self.address.version == 6 else self.address
        return f"{address}:{self.port}"


def parse_place(text: str) -> Place:
    """From ``10.0.0.1:10256`` or ``[fd00::1]:10256``. Raises ``ValueError`` that says what is wrong."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    address, port = ip_address(found["v4"] if found["v6"] is None else found["v6"]), int(found["port"])
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port from 1 to 65535")
    return Place(address, port)


class Listeners:
    """``handler(place)`` gives what answers there."""

    def __init__(self, server: Server, handler: Callable[[Place], Handler]) -> None:
        self._server = server
        self._handler = handler
        self._open: dict[Place, asyncio.Server] = {}

    async def keep(self, wanted: Iterable[Place]) -> dict[Place, str]:
        """Closes all others, and opens what is missing; returns what cannot be opened, and why."""
        wanted = dict.fromkeys(wanted)
        for place in [place for place in self._open if place not in wanted]:
            self._open.pop(place).close()
        failures: dict[Place, str] = {}
        for place in [place for place in wanted if place not in self._open]:
            try:
                self._open[place] = await self._server.serve(_listen(place), self._handler(place))
            except OSError as error:
                failures[place] = error.strerror or str(error)
        return failures


def _listen(place: Place) -> socket.socket:
    address, port = place
    if not address.is_unspecified:
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        return socket.create_server((str(address), port), family=family, backlog=_BACKLOG)
    try:
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
        )
    except OSError as error:
        if error.errno != errno.EAFNOSUPPORT:
            raise
        return socket.create_server(("0.0.0.0", port), backlog=_BACKLOG)
