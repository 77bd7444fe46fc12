"""The Node objects as last seen, on disk, so that a node starts without the API, too."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tulle.model.objects import Node

log = logging.getLogger(__name__)


class Snapshot:
    """``nodes.json`` in the state folder."""

    def __init__(self, state: Path) -> None:
        self._path = state / "nodes.json"
        self._last = b""

    def read(self) -> list[Node]:
        """The nodes as they were; none when there is no snapshot or it cannot be read."""
        try:
            self._last = self._path.read_bytes()
            return msgspec.json.decode(self._last, type=list[Node])
        except FileNotFoundError:
            return []
        except msgspec.MsgspecError as error:
            log.warning("%s cannot be read (%s); waiting for the API", self._path, error)
            return []

    def write(self, nodes: Iterable[Node]) -> None:
        """Replaces the snapshot, whole or not at all, also when the power fails.

        A disk that is full is no reason to end: only the next start without an API would miss it.
        """
        data = msgspec.json.encode(sorted(nodes, key=lambda n: n.metadata.name))
        if data == self._last:
            return
        try:
            self._replace(data)
        except OSError as error:
            log.error("%s cannot be written, the next agent has to wait for the API: %s", self._path, error)
        else:
            self._last = data

    def _replace(self, data: bytes) -> None:
        partial = self._path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)
