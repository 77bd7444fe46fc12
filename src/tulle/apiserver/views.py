"""The forms an object can be asked for in: itself, a row of a table, or its metadata only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from tulle.apiserver import printers, status
from tulle.apiserver.kinds import Kind, Object
from tulle.apiserver.store import Record, frame

JSON = ("application/json", "application/*", "*/*")


@dataclass(frozen=True, slots=True)
class View:
    """``form`` is ``Object``, ``Table`` or ``Metadata``; ``include`` is what a table's row carries."""

    form: str = "Object"
    include: str = "Metadata"

    def one(self, kind: Kind, record: Record) -> bytes:
        if self.form == "Object":
            return _raw(kind, record)
        if self.form == "Metadata":
            return msgspec.json.encode(_metadata_of(kind, record, "PartialObjectMetadata"))
        return self._table(kind, [record], {"resourceVersion": str(record.version)})

    def many(self, kind: Kind, records: Sequence[Record], meta: Object) -> bytes:
        if self.form == "Table":
            return self._table(kind, records, meta)
        if self.form == "Metadata":
            items = [msgspec.json.encode(_metadata_of(kind, r, "PartialObjectMetadata")) for r in records]
            head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
        else:
            items = [_raw(kind, record) for record in records]
            head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta}
        return msgspec.json.encode(head)[:-1] + b',"items":[' + b",".join(items) + b"]}"

    def line(self, kind: Kind, change: str, record: Record) -> bytes:
        """A line of a watch."""
        return frame(change, self.one(kind, record))

    def bookmark(self, kind: Kind, version: int, *, initial_end: bool = False) -> bytes:
        meta: Object = {"resourceVersion": str(version)}
        if initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        shell = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
        if self.form == "Metadata":
            shell |= {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        elif self.form == "Table":
            shell = _shell("Table", meta) | {"columnDefinitions": [], "rows": []}
        return frame("BOOKMARK", msgspec.json.encode(shell))

    def _table(self, kind: Kind, records: Iterable[Record], meta: Object) -> bytes:
        moment = datetime.now(UTC)
        rows: list[Object] = []
        for record in records:
            row: Object = {"cells": _cells(kind, record.obj, moment)}
            if self.include == "Metadata":
                row["object"] = _metadata_of(kind, record, "PartialObjectMetadata")
            elif self.include == "Object":
                row["object"] = msgspec.Raw(_raw(kind, record))
            rows.append(row)
        table = _shell("Table", meta) | {"columnDefinitions": _columns(kind), "rows": rows}
        return msgspec.json.encode(table)


def _columns(kind: Kind) -> list[Object]:
    return printers.custom_columns(kind.columns) if kind.custom else printers.columns(kind.kind)


def _cells(kind: Kind, obj: Object, now: datetime) -> list[Any]:
    return (
        printers.custom_cells(kind.columns, obj, now) if kind.custom else printers.cells(kind.kind, obj, now)
    )


def _shell(kind: str, meta: Object) -> dict[str, Any]:
    return {"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": meta}


def _metadata_of(kind: Kind, record: Record, name: str) -> Object:
    return _shell(name, record.obj["metadata"])


def _raw(kind: Kind, record: Record) -> bytes:
    return msgspec.json.encode(kind.present(record.obj)) if kind.present else record.raw


def choose(accept: str, include: str) -> View:
    """The first form in an Accept header that can be served; 406 when there is none."""
    for offer in accept.split(",") if accept else JSON:
        media, *parameters = [part.strip() for part in offer.split(";")]
        if media not in JSON:
            continue
        form = dict(p.split("=", 1) for p in parameters if "=" in p).get("as", "")
        if form == "Table":
            return View("Table", include or "Metadata")
        if form.startswith("PartialObjectMetadata"):
            return View("Metadata")
        if not form:
            return View()
    only = "application/json, application/json;as=Table, application/json;as=PartialObjectMetadata"
    raise status.StatusError(406, f"only the following media types are accepted: {only}")
