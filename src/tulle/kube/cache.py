"""The local copy of a collection. Pure: it is told what the API said, and says what changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, Literal

from tulle.kube.resources import Item, Key, T


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One difference between the copy before and after; ``old`` and ``new`` are None where there is none."""

    kind: Literal["added", "modified", "deleted"]
    key: Key
    old: T | None
    new: T | None


class WatchCache(Generic[T]):
    """Applying every change that it returns to an empty mapping gives ``objects``.

    An object that could not be decoded stays as it was last understood, until the API says it is gone.
    An update that touches none of the decoded fields is not a change.
    """

    def __init__(self) -> None:
        self._objects: dict[Key, T] = {}
        self.objects = MappingProxyType(self._objects)

    def replace(self, items: Iterable[Item[T]]) -> list[Change[T]]:
        """A complete list: what is not in it has been deleted."""
        found = {item.key: item for item in items}
        vanished = [key for key in self._objects if key not in found]
        changes = [self.remove(key) for key in vanished]
        changes += [self.put(item) for item in found.values()]
        return [change for change in changes if change]

    def put(self, item: Item[T]) -> Change[T] | None:
        """An object as it is now."""
        old = self._objects.get(item.key)
        if item.value is None or item.value == old:
            return None
        self._objects[item.key] = item.value
        return Change("added" if old is None else "modified", item.key, old, item.value)

    def remove(self, key: Key) -> Change[T] | None:
        """The object is gone."""
        old = self._objects.pop(key, None)
        return None if old is None else Change("deleted", key, old, None)
