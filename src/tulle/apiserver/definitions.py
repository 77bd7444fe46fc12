"""CustomResourceDefinitions at work: the registry follows the stored ones."""

from __future__ import annotations

import asyncio

from tulle.apiserver.customs import FINALIZER, kinds
from tulle.apiserver.kinds import Object
from tulle.apiserver.store import Event
from tulle.apiserver.writing import Options, Writer


class Definitions:
    """Keeps the registry in step with the stored definitions, and empties those that are being deleted."""

    def __init__(self, writer: Writer) -> None:
        self._store = writer.objects
        self._registry = writer.registry
        self._writer = writer
        self._kind = self._registry.get("apiextensions.k8s.io", "customresourcedefinitions")
        self._wake = asyncio.Event()
        for _, record in self._store.scan(self._kind.stored):
            self._serve(record.obj)
        self._store.listen(self._kind.stored, self._changed)

    def _serve(self, definition: Object) -> None:
        spec = definition["spec"]
        self._registry.drop_custom(spec["group"], spec["names"]["plural"])
        for kind in kinds(definition):
            self._registry.add(kind)
        if "deletionTimestamp" in definition["metadata"]:
            self._store.listen(f"{spec['group']}/{spec['names']['plural']}", lambda _: self._wake.set())
            self._wake.set()

    def _changed(self, event: Event) -> None:
        definition = event.record.obj
        if event.type == "DELETED":
            self._registry.drop_custom(definition["spec"]["group"], definition["spec"]["names"]["plural"])
        else:
            self._serve(definition)

    async def run(self) -> None:
        """Deletes the objects of definitions that are to go, then lets these go. Never returns."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for _, record in list(self._store.scan(self._kind.stored)):
                if "deletionTimestamp" in record.obj["metadata"]:
                    self._empty(record.copy())

    def _empty(self, definition: Object) -> None:
        for kind in kinds(definition)[:1]:
            for _, record in list(self._store.scan(kind.stored)):
                meta = record.obj["metadata"]
                if "deletionTimestamp" not in meta:
                    self._writer.delete(kind, meta.get("namespace", ""), meta["name"], {}, Options())
        meta = definition["metadata"]
        left = self._store.count(f"{definition['spec']['group']}/{definition['spec']['names']['plural']}")
        if not left and FINALIZER in meta.get("finalizers", ()):
            meta["finalizers"].remove(FINALIZER)
            self._writer.update(self._kind, "", meta["name"], definition, Options())
