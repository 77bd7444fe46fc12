"""Objects in SQLite and in memory, with a log of changes.

Every change gets the next version, a single counter: versions have no gaps.  Changes of one turn of the event
loop are committed as one transaction; only then is the writer answered, are watchers told, and may anybody
read them, so that a ``kill -9`` can take back nothing that was seen.  (One transaction per change was
measured at a third of the creates per second.)
"""

from __future__ import annotations

import asyncio
import sqlite3
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

Key = tuple[str, str]
"""Namespace (empty for what has none) and name."""

SCHEMA: Final = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA wal_autocheckpoint = 0;
CREATE TABLE IF NOT EXISTS objects (resource TEXT, namespace TEXT, name TEXT, value BLOB,
    PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (version INTEGER PRIMARY KEY, type TEXT, resource TEXT, value BLOB);
CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 0), version INTEGER);
INSERT OR IGNORE INTO counter VALUES (0, 0);
"""


@dataclass(frozen=True, slots=True)
class Record:
    """A stored object, decoded and encoded.  Nobody changes ``obj``: ``copy`` gives one to change."""

    version: int
    obj: dict[str, Any]
    raw: bytes

    def copy(self) -> dict[str, Any]:
        copied: dict[str, Any] = msgspec.json.decode(self.raw)
        return copied


@dataclass(slots=True)
class Event:
    """One change. ``previous`` is the object before it, None where that is not known any more."""

    type: str
    resource: str
    record: Record
    previous: dict[str, Any] | None

    frame: bytes = field(init=False)
    """The line that a watch sends, encoded once for all watchers."""

    def __post_init__(self) -> None:
        self.frame = frame(self.type, self.record.raw)


def frame(kind: str, raw: bytes) -> bytes:
    """A line of a watch."""
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), raw)


class Expired(Exception):
    """The log does not reach back (or forth) to the version that was asked for."""


@dataclass(slots=True)
class _Batch:
    """Changes that wait for their transaction, and what undoes them in memory."""

    events: list[Event] = field(default_factory=list)
    undo: list[Callable[[], object]] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    error: sqlite3.Error | None = None


class Index:
    """Which objects of one resource have a value, also between a change and its commit."""

    def __init__(self, values_of: Callable[[dict[str, Any]], Iterable[Hashable]]) -> None:
        self._values_of = values_of
        self._holders: dict[Hashable, set[Key]] = {}

    def of(self, value: Hashable) -> Collection[Key]:
        """The keys of the objects that have ``value``."""
        return self._holders.get(value, ())

    def move(self, key: Key, old: Record | None, new: Record | None) -> None:
        """Follows a change of the object at ``key``."""
        for value in self._values_of(old.obj) if old else ():
            holders = self._holders[value]
            holders.discard(key)
            if not holders:
                del self._holders[value]
        for value in self._values_of(new.obj) if new else ():
            self._holders.setdefault(value, set()).add(key)


class Shelf:
    """The objects of one resource, with their keys in order."""

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}
        self.keys: list[Key] = []
        self.indexes: list[Index] = []

    def replace(self, key: Key, record: Record | None) -> Record | None:
        """Puts a record in place, or takes it away; returns what stood there."""
        old = self.records.pop(key, None) if record is None else self.records.get(key)
        if record is not None:
            self.records[key] = record
            if old is None:
                insort(self.keys, key)
        elif old is not None:
            del self.keys[bisect_left(self.keys, key)]
        for index in self.indexes:
            index.move(key, old, record)
        return old

    def scan(self, namespace: str, after: Key | None) -> Iterator[tuple[Key, Record]]:
        """Records in order of their keys, of one namespace or (empty) of all, beginning behind ``after``."""
        start = bisect_left(self.keys, (namespace, ""))
        if after is not None:
            start = max(start, bisect_left(self.keys, (after[0], after[1] + "\0")))
        for key in islice(self.keys, start, None):
            if namespace and key[0] != namespace:
                return
            yield key, self.records[key]


class Store:
    """The single writer of the database at ``path``; keeps the last ``history`` changes for watches."""

    def __init__(self, path: Path, history: int = 10_000) -> None:
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript(SCHEMA)
        path.chmod(0o600)
        self._history = history
        self._shelves: defaultdict[str, Shelf] = defaultdict(Shelf)
        self._log: deque[Event] = deque()
        self._batch: _Batch | None = None
        self._listeners: defaultdict[str, list[Callable[[Event], None]]] = defaultdict(list)
        self.version = 0
        self._load()

    def _load(self) -> None:
        (self.version,) = self._db.execute("SELECT version FROM counter").fetchone()
        for resource, namespace, name, raw in self._db.execute("SELECT * FROM objects"):
            record = _record(raw)
            self._shelves[resource].replace((namespace, name), record)
        before: dict[str, dict[str, Any]] = {}
        for _, kind, resource, raw in self._db.execute("SELECT * FROM log ORDER BY version"):
            record = _record(raw)
            uid = record.obj["metadata"]["uid"]
            self._log.append(Event(kind, resource, record, before.get(uid)))
            before[uid] = record.obj

    def close(self) -> None:
        self.flush()
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    def get(self, resource: str, namespace: str, name: str) -> Record | None:
        return self._shelves[resource].records.get((namespace, name))

    def scan(
        self, resource: str, namespace: str = "", after: Key | None = None
    ) -> Iterator[tuple[Key, Record]]:
        """The objects of a resource in order of namespace and name; the store must not change meanwhile."""
        return self._shelves[resource].scan(namespace, after)

    def count(self, resource: str) -> int:
        return len(self._shelves[resource].keys)

    def index(self, resource: str, values_of: Callable[[dict[str, Any]], Iterable[Hashable]]) -> Index:
        """An index of a resource by the different values that ``values_of`` finds in each object."""
        shelf, index = self._shelves[resource], Index(values_of)
        for key, record in shelf.records.items():
            index.move(key, None, record)
        shelf.indexes.append(index)
        return index

    def put(self, resource: str, obj: dict[str, Any]) -> Record:
        """Creates or replaces an object (by its metadata); sets its resourceVersion."""
        return self._change(resource, obj, gone=False)

    def remove(self, resource: str, obj: dict[str, Any]) -> Record:
        """Takes an object away; its last state gets a version of its own, as watchers expect."""
        return self._change(resource, obj, gone=True)

    def _change(self, resource: str, obj: dict[str, Any], *, gone: bool) -> Record:
        meta = obj["metadata"]
        key = _key(obj)
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        record = Record(self.version, obj, msgspec.json.encode(obj))
        shelf = self._shelves[resource]
        old = shelf.replace(key, None if gone else record)
        kind = "DELETED" if gone else "MODIFIED" if old else "ADDED"
        if self._batch is None:
            self._batch = _Batch()
            asyncio.get_running_loop().call_soon(self.flush)
        self._batch.events.append(Event(kind, resource, record, old.obj if old else None))
        self._batch.undo.append(partial(shelf.replace, key, old))
        return record

    async def committed(self) -> None:
        """Returns once what was written so far is in the database; raises ``sqlite3.Error`` if it is not."""
        if (batch := self._batch) is not None:
            await batch.done.wait()
            if batch.error is not None:
                raise batch.error

    def flush(self) -> None:
        """Commits what waits.  Readers call it first, so that they see committed state only."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        try:
            self._write(batch.events)
        except sqlite3.Error as error:
            for undo in reversed(batch.undo):
                undo()
            self.version -= len(batch.events)
            batch.error = error
            batch.done.set()
            return
        batch.done.set()
        for event in batch.events:
            self._log.append(event)
            for listener in tuple(self._listeners[event.resource]):
                listener(event)

        while len(self._log) > self._history:
            self._log.popleft()

    def _write(self, events: list[Event]) -> None:
        final = {(e.resource, *_key(e.record.obj)): e for e in events}
        stored = [(*key, e.record.raw) for key, e in final.items() if e.type != "DELETED"]
        removed = [key for key, e in final.items() if e.type == "DELETED"]
        logged = [(e.record.version, e.type, e.resource, e.record.raw) for e in events]
        with closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                cursor.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", stored)
                cursor.executemany(
                    "DELETE FROM objects WHERE (resource, namespace, name) = (?, ?, ?)", removed
                )
                cursor.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", logged)
                cursor.execute("DELETE FROM log WHERE version <= ?", (self.version - self._history,))
                cursor.execute("UPDATE counter SET version = ?", (self.version,))
                cursor.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    def since(self, resource: str, version: int) -> list[Event]:
        """The committed changes of a resource after ``version``, oldest first; raises Expired."""
        if not self.remembers(version):
            raise Expired(f"too old resource version: {version} ({self._oldest})")
        return [e for e in islice(self._log, version - self._oldest, None) if e.resource == resource]

    def remembers(self, version: int) -> bool:
        """Whether every change after ``version`` is still in the log; not so for versions yet to come."""
        return self._oldest <= version <= self.version

    @property
    def _oldest(self) -> int:
        """The version that the log begins behind."""
        return self._log[0].record.version - 1 if self._log else self.version

    def listen(self, resource: str, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Calls ``listener`` with every change from now on; returns what ends that."""
        listeners = self._listeners[resource]
        listeners.append(listener)
        return lambda: listeners.remove(listener)

    async def checkpoint(self) -> None:
        """Moves the write-ahead log into the database, in a thread: it waits for the disk."""
        await asyncio.to_thread(_checkpoint, self._path)


def _checkpoint(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _key(obj: dict[str, Any]) -> Key:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _record(raw: bytes) -> Record:
    obj = msgspec.json.decode(raw)
    return Record(int(obj["metadata"]["resourceVersion"]), obj, raw)
