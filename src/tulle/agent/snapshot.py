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
        """Replaces the snapshot, whole or not at all, also when the power fails. Raises ``OSError``."""
        data = msgspec.json.encode(sorted(nodes, key=lambda n: n.metadata.name))
        if data == self._last:
            return
        partial = self._path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)
        self._last = data
