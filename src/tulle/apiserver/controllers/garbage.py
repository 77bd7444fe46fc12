"""The garbage collector: dependents go with their owners, in the background or in the foreground, or stay.

As in Kubernetes (concepts/architecture/garbage-collection): an object goes once none of its owners is left;
the finalizer ``foregroundDeletion`` keeps an owner until its blocking dependents are gone; ``orphan`` keeps
it until they no longer refer to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from tulle.apiserver.controllers.inventory import Entry, Inventory, Metadata, Reference
from tulle.apiserver.controllers.work import Propagation, delete, in_parallel
from tulle.errors import NotFound
from tulle.kube.client import Client
from tulle.kube.queue import Queue

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"


class Standing(Enum):
    """What has become of an owner."""

    THERE = "there"
    LEAVING = "waits for its dependents to go first"
    GONE = "gone"


@dataclass(frozen=True)
class Verdict:
    """``delete`` is how, if at all; ``forget`` has the uids of owners that are referred to for nothing."""

    delete: Propagation | None = None
    forget: frozenset[str] = frozenset()


def judge(metadata: Metadata, standings: dict[str, Standing], has_dependents: bool) -> Verdict:
    """What is to happen to an object that is not being deleted; ``standings`` are by its owners' uids."""
    if not standings:
        return Verdict()
    if Standing.THERE in standings.values():
        return Verdict(forget=frozenset(uid for uid, s in standings.items() if s is not Standing.THERE))
    if Standing.LEAVING in standings.values() and has_dependents:
        return Verdict("Foreground")
    if ORPHAN in metadata.finalizers:
        return Verdict("Orphan")
    return Verdict("Foreground" if FOREGROUND in metadata.finalizers else "Background")


def without_owners(metadata: Metadata, uids: frozenset[str]) -> list[dict[str, Any]]:
    """A JSON patch; each reference is tested before it is removed, so that no other is."""
    operations = []
    for index, owner in reversed(list(enumerate(metadata.owner_references))):
        if owner.uid in uids:
            path = f"/metadata/ownerReferences/{index}"
            operations.append({"op": "test", "path": f"{path}/uid", "value": owner.uid})
            operations.append({"op": "remove", "path": path})
    return operations


def without_finalizer(metadata: Metadata, finalizer: str) -> list[dict[str, Any]]:
    path = f"/metadata/finalizers/{metadata.finalizers.index(finalizer)}"
    return [{"op": "test", "path": path, "value": finalizer}, {"op": "remove", "path": path}]


class GarbageCollector:
    """Looks at what has owners or is held by one of its finalizers, whenever either side changes."""

    def __init__(self, client: Client, inventory: Inventory) -> None:
        self._client, self._inventory = client, inventory
        self._queue: Queue[str] = Queue("garbage")
        inventory.subscribe(self._changed)

    def _changed(self, before: Entry | None, after: Entry | None) -> None:
        if after is not None and (after.metadata.owner_references or _is_held(after.metadata)):
            self._queue.add(after.metadata.uid)
        if before is not None and after is None:
            for dependent in self._inventory.dependents(before.metadata.uid):
                self._queue.add(dependent.metadata.uid)
            for owner in before.metadata.owner_references:
                self._queue.add(owner.uid)

    async def run(self) -> None:
        """Never returns."""
        await self._inventory.synced()
        await self._queue.run(self._look_at, workers=8)

    async def _look_at(self, uid: str) -> None:
        entry = self._inventory.get(uid)
        if entry is None:
            return
        if not entry.metadata.deletion_timestamp:
            await self._collect(entry)
        elif ORPHAN in entry.metadata.finalizers:
            await self._orphan_dependents(entry)
        elif FOREGROUND in entry.metadata.finalizers:
            await self._collect_dependents(entry)

    async def _collect(self, entry: Entry) -> None:
        metadata = entry.metadata
        owners = metadata.owner_references
        standings = {owner.uid: await self._standing(owner, metadata.namespace) for owner in owners}
        verdict = judge(metadata, standings, bool(self._inventory.dependents(metadata.uid)))
        if verdict.forget:
            await self._patch(entry, without_owners(metadata, verdict.forget))
        if verdict.delete:
            key = (metadata.namespace, metadata.name)
            await delete(self._client, entry.resource, key, metadata.uid, verdict.delete)

    async def _standing(self, owner: Reference, namespace: str) -> Standing:
        """An owner that the inventory does not have is asked for: it may only not have been heard of yet."""
        if entry := self._inventory.get(owner.uid):
            leaving = entry.metadata.deletion_timestamp and FOREGROUND in entry.metadata.finalizers
            return Standing.LEAVING if leaving else Standing.THERE
        resource = self._inventory.resource(owner.api_version, owner.kind)
        if resource is None:
            return Standing.THERE
        try:
            found = await self._client.get(resource, owner.name, namespace if resource.namespaced else None)
        except NotFound:
            return Standing.GONE
        return Standing.THERE if found.metadata.uid == owner.uid else Standing.GONE

    async def _orphan_dependents(self, entry: Entry) -> None:
        uid = entry.metadata.uid
        dependents = self._inventory.dependents(uid)
        await in_parallel(
            self._patch(each, without_owners(each.metadata, frozenset({uid}))) for each in dependents
        )
        await self._patch(entry, without_finalizer(entry.metadata, ORPHAN))

    async def _collect_dependents(self, entry: Entry) -> None:
        dependents = self._inventory.dependents(entry.metadata.uid)
        for dependent in dependents:
            self._queue.add(dependent.metadata.uid)
        references = (owner for each in dependents for owner in each.metadata.owner_references)
        if not any(owner.uid == entry.metadata.uid and owner.block_owner_deletion for owner in references):
            await self._patch(entry, without_finalizer(entry.metadata, FOREGROUND))

    async def _patch(self, entry: Entry, patch: list[dict[str, Any]]) -> None:
        name, namespace = entry.metadata.name, entry.metadata.namespace or None
        try:
            await self._client.patch(entry.resource, name, patch, namespace, kind="json")
        except NotFound:
            return


def _is_held(metadata: Metadata) -> bool:
    return metadata.deletion_timestamp is not None and not {ORPHAN, FOREGROUND}.isdisjoint(
        metadata.finalizers
    )
