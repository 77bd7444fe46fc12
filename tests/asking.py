"""Asks for a page over HTTP from inside a network namespace."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.kernel import netns


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


def connect(place: Path, address: str, port: int) -> socket.socket:
    with netns.entered(place):
        return socket.create_connection((address, port), 10)


def ask(place: Path, address: str, port: int, path: str = "/", method: str = "GET") -> Answer:
    """Raises ``ConnectionRefusedError`` where nobody listens."""
    connection = http.client.HTTPConnection(address, port)
    connection.sock = connect(place, address, port)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
    finally:
        connection.close()


def is_closed(place: Path, address: str, port: int) -> bool:
    """Whether nobody listens. A listener that ends while we connect resets us: it was there."""
    try:
        connect(place, address, port).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False
