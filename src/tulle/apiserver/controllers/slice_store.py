"""The EndpointSlices of each Service by who manages them, and the writes that change them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable

from tulle.apiserver.controllers.objects import Object, key_of
from tulle.apiserver.controllers.slices import MANAGED_BY, SERVICE_NAME, Changes
from tulle.apiserver.controllers.work import Mirror, delete, in_parallel
from tulle.errors import Forbidden
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.resources import ENDPOINTSLICES, Key

log = logging.getLogger(__name__)

Place = tuple[Key, str]
"""A Service and a manager."""


class SliceStore:
    """One for all controllers that make slices, each of which is told of changes to its own by others."""

    def __init__(self, client: Client, slices: Mirror) -> None:
        self._client, self.mirror = client, slices
        self._keys: defaultdict[Place, set[Key]] = defaultdict(set)
        self._callbacks: dict[str, Callable[[Key], None]] = {}
        self._written: dict[Key, str] = {}
        slices.informer.subscribe(self._changed)

    def subscribe(self, manager: str, changed: Callable[[Key], None]) -> None:
        """``changed`` is told the Service when a slice of ``manager`` is not as it was last written here."""
        self._callbacks[manager] = changed

    def of(self, service: Key, manager: str) -> list[Object]:
        """What ``manager`` has made for ``service``, by our own writes, too, that the watch has not shown."""
        found = self.mirror.find(self._keys.get((service, manager), ()))
        return [each for each in found if _place(each) == (service, manager)]

    async def carry_out(self, changes: Changes) -> None:
        """What takes the place of something is there first: rather two for a moment than none."""
        await in_parallel(
            [
                *(self._create(each) for each in changes.create),
                *(self._replace(each) for each in changes.update),
            ]
        )
        await in_parallel(self._delete(each) for each in changes.delete)

    async def _create(self, slice_: Object) -> None:
        try:
            made = await self._client.create(ENDPOINTSLICES, slice_, slice_["metadata"]["namespace"])
        except Forbidden as error:  # the namespace is being terminated, and what is in it goes
            log.debug("no EndpointSlice is made: %s", error)
            return
        self._wrote(made)

    async def _replace(self, slice_: Object) -> None:
        namespace, name = key_of(slice_)
        self._wrote(await self._client.replace(ENDPOINTSLICES, name, slice_, namespace))

    async def _delete(self, slice_: Object) -> None:
        await delete(self._client, ENDPOINTSLICES, key_of(slice_), slice_["metadata"]["uid"])
        self.mirror.deleted(slice_)

    def _wrote(self, slice_: Object) -> None:
        key = key_of(slice_)
        self.mirror.wrote(slice_)
        self._written[key] = slice_["metadata"]["resourceVersion"]
        self._keys[_place(slice_)].add(key)

    def _changed(self, change: Change[Object]) -> None:
        places = {_place(each) for each in (change.old, change.new) if each is not None}
        now = _place(change.new) if change.new else None
        for place in places:
            if place == now:
                self._keys[place].add(change.key)
            else:
                self._keys[place].discard(change.key)
                if not self._keys[place]:
                    del self._keys[place]
        if change.new is None:
            self._written.pop(change.key, None)
        elif self._written.get(change.key) == change.new["metadata"]["resourceVersion"]:
            return
        for service, manager in places:
            if callback := self._callbacks.get(manager):
                callback(service)


def _place(slice_: Object) -> Place:
    labels = slice_["metadata"].get("labels") or {}
    return (slice_["metadata"]["namespace"], labels.get(SERVICE_NAME, "")), labels.get(MANAGED_BY, "")
