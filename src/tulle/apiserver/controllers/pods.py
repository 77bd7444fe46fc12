"""Pods and their owners: who claims which Pod, and carrying out what an owner decided about its Pods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tulle.apiserver.controllers.objects import (
    Object,
    controller_of,
    controller_reference,
    is_active,
    is_controlled_by,
    is_deleting,
    key_of,
    selects,
)
from tulle.apiserver.controllers.work import Mirror, delete, in_parallel
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.resources import PODS, Key, Resource


@dataclass(frozen=True)
class Actions:
    """What is to happen to the objects that an owner claims."""

    create: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    adopt: list[Object] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """``look_again`` is in seconds: when the next Pod becomes available by waiting alone."""

    actions: Actions
    status: Object
    look_again: float = math.inf


@dataclass(frozen=True)
class Claim:
    """``mine`` includes what is to be adopted, and excludes what is to be released."""

    mine: list[Object]
    adopt: list[Object]
    release: list[Object]


def claim(owner: Object, candidates: Iterable[Object]) -> Claim:
    """An owner that is being deleted adopts nothing, so that its dependents can be orphaned."""
    found = Claim([], [], [])
    selector = owner["spec"]["selector"]
    for obj in candidates:
        selected = selects(selector, obj["metadata"].get("labels"))
        if is_controlled_by(obj, owner):
            (found.mine if selected or is_deleting(owner) else found.release).append(obj)
        elif selected and controller_of(obj) is None and not is_deleting(owner) and not is_deleting(obj):
            found.mine.append(obj)
            found.adopt.append(obj)
    return found


def owners_of(change: Change[Object], kind: str, owners: Mirror) -> Iterator[Key]:
    """The owners of ``kind`` that a change concerns: controllers, or for an orphan all that select it."""
    for obj in filter(None, (change.old, change.new)):
        reference = controller_of(obj)
        if reference is None and is_active(obj):
            labels = obj["metadata"].get("labels")
            near = owners.in_namespace(change.key[0])
            yield from (key_of(owner) for owner in near if selects(owner["spec"]["selector"], labels))
        elif reference is not None and reference["kind"] == kind:
            yield change.key[0], reference["name"]


class Dependents:
    """Carries out `Actions` on one resource for owners of another."""

    def __init__(
        self, client: Client, objects: Mirror, owners: Resource[Object], resource: Resource[Object] = PODS
    ) -> None:
        self._client, self._objects, self._owners, self._resource = client, objects, owners, resource

    async def carry_out(self, owner: Object, actions: Actions) -> None:
        """All at once, a bounded number at a time; raises the first failure."""
        await in_parallel(
            [
                *(self._own(owner, obj) for obj in actions.adopt),
                *(self._disown(owner, obj) for obj in actions.release),
                *(self._create(obj) for obj in actions.create),
                *(self._delete(obj) for obj in actions.delete),
            ]
        )

    async def _create(self, obj: Object) -> None:
        namespace = obj["metadata"]["namespace"]
        self._objects.wrote(await self._client.create(self._resource, obj, namespace))

    async def _delete(self, obj: Object) -> None:
        await delete(self._client, self._resource, key_of(obj), obj["metadata"]["uid"])
        self._objects.deleted(obj)

    async def _own(self, owner: Object, obj: Object) -> None:
        await self._refer(obj, controller_reference(self._owners, owner))

    async def _disown(self, owner: Object, obj: Object) -> None:
        await self._refer(obj, {"$patch": "delete", "uid": owner["metadata"]["uid"]})

    async def _refer(self, obj: Object, reference: Object) -> None:
        """The uid in the patch makes it fail on another object that has got the name meanwhile."""
        namespace, name = key_of(obj)
        patch = {"metadata": {"uid": obj["metadata"]["uid"], "ownerReferences": [reference]}}
        answer = await self._client.patch(self._resource, name, patch, namespace, kind="strategic")
        self._objects.wrote(answer)
