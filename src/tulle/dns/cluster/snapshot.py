"""The objects behind the zone on disk, so that a restart answers without the API, too."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tulle.dns.cluster.catalog import Catalog, Objects
from tulle.dns.cluster.objects import Service
from tulle.model.objects import Namespace
from tulle.model.services import EndpointSlice

log = logging.getLogger(__name__)

_AT_A_TIME = 200
"""Objects that are encoded before queries get their turn again; about a millisecond."""

_KINDS: dict[str, type[Objects]] = {"n": Namespace, "s": Service, "e": EndpointSlice}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}


class Snapshot:
    """``dns.jsonl`` in the state folder: a letter for the kind and an object on each line, then a dot."""

    def __init__(self, state: Path) -> None:
        self._path = state / "dns.jsonl"

    def read(self) -> list[Objects]:
        """The objects as they were, slices before Services; none without a snapshot that can be read."""
        try:
            return list(_decode(self._path))
        except FileNotFoundError:
            return []
        except (OSError, KeyError, EOFError, msgspec.MsgspecError) as error:
            log.warning("%s cannot be read (%s); waiting for the API", self._path, error)
            return []

    async def write(self, catalog: Catalog) -> None:
        """Replaces the snapshot, whole or not at all, while queries are answered. Raises ``OSError``."""
        partial = self._path.with_suffix(".partial")
        with partial.open("wb") as file:
            for count, each in enumerate(catalog.objects()):
                file.write(_LETTERS[type(each)].encode() + msgspec.json.encode(each) + b"\n")
                if count % _AT_A_TIME == 0:
                    await asyncio.sleep(0)
            file.write(b".\n")
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        partial.replace(self._path)


def _decode(path: Path) -> Iterator[Objects]:
    decoders = {letter: msgspec.json.Decoder(kind) for letter, kind in _KINDS.items()}
    complete = False
    with path.open("rb") as file:
        for line in file:
            complete = line == b".\n"
            if not complete:
                yield decoders[line[:1].decode()].decode(line[1:])
    if not complete:
        raise EOFError("its end is missing")
