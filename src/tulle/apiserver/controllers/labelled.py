"""Which objects a selector selects, and which selectors select an object, without looking at all of them.

Both are indexes for the plain form of a selector, ``{key: value}``, that Services have. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from tulle.kube.resources import Key

Labels = Mapping[str, str]
Place = tuple[str, str, str]
"""Namespace, label key, label value."""


class Labelled:
    """Objects by their labels."""

    def __init__(self) -> None:
        self._labels: dict[Key, Labels] = {}
        self._places: defaultdict[Place, set[Key]] = defaultdict(set)

    def put(self, key: Key, labels: Labels) -> None:
        """``key`` now has ``labels``."""
        self.remove(key)
        self._labels[key] = labels
        for place in _places(key[0], labels):
            self._places[place].add(key)

    def remove(self, key: Key) -> None:
        for place in _places(key[0], self._labels.pop(key, {})):
            _discard(self._places, place, key)

    def selected(self, namespace: str, selector: Labels) -> list[Key]:
        """In order of their names; a selector without any label selects nothing, as in a Service."""
        places = [self._places.get(place, set()) for place in _places(namespace, selector)]
        return sorted(set.intersection(*sorted(places, key=len))) if places else []


class Selectors:
    """Selectors by one of their labels: an object is compared only with those that share a label with it."""

    def __init__(self) -> None:
        self._selectors: dict[Key, Labels] = {}
        self._place: dict[Key, Place] = {}
        self._places: defaultdict[Place, set[Key]] = defaultdict(set)

    def put(self, key: Key, selector: Labels) -> None:
        """``key`` now has ``selector``; one without any label selects nothing.

        It is filed under its rarest label, as one like ``app.kubernetes.io/managed-by`` may be in all.
        """
        self.remove(key)
        if not selector:
            return
        place = min(_places(key[0], selector), key=lambda each: len(self._places.get(each, ())))
        self._selectors[key], self._place[key] = selector, place
        self._places[place].add(key)

    def remove(self, key: Key) -> None:
        if self._selectors.pop(key, None):
            _discard(self._places, self._place.pop(key), key)

    def selecting(self, namespace: str, labels: Labels) -> Iterator[Key]:
        """Whose selectors match ``labels``."""
        for place in _places(namespace, labels):
            for key in self._places.get(place, ()):
                if self._selectors[key].items() <= labels.items():
                    yield key


def _places(namespace: str, labels: Labels) -> list[Place]:
    return [(namespace, key, value) for key, value in labels.items()]


def _discard(places: dict[Place, set[Key]], place: Place, key: Key) -> None:
    places[place].discard(key)
    if not places[place]:
        del places[place]
