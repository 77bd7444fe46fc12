"""Reads ``builtin.types``, the compact table of the built-in kinds' fields, into OpenAPI v3 schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

Schema = dict[str, Any]

PRIMITIVES: Mapping[str, Schema] = {
    "string": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "number": {"type": "number"},
    "time": {"type": "string", "format": "date-time"},
    "bytes": {"type": "string", "format": "byte"},
    "intstr": {"x-kubernetes-int-or-string": True},
    "quantity": {"x-kubernetes-int-or-string": True},
    "object": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
FIELD = re.compile(
    r"(?:(?P<number>[\d/]+) )?(?P<name>\w+)(?P<required>!?) (?P<type>[^ ]+)(?: = (?P<default>.+))?"
)
RANGE = re.compile(r"int\((?P<low>\d+)\.\.(?P<high>\d*)\)")


@dataclass(frozen=True, slots=True)
class Field:
    """A line's entry. ``number`` leads to it in protobuf: (2,), or (2, 1) in a message that is field 2."""

    name: str
    type: str
    required: bool
    default: str | None
    number: tuple[int, ...]


@cache
def table() -> Mapping[str, list[Field]]:
    """Each type's fields."""
    types: dict[str, list[Field]] = {}
    name = ""
    for line in files("tulle.apiserver").joinpath("builtin.types").read_text().splitlines():
        if line.startswith("  "):
            types[name] += [_field(each.strip()) for each in line.split(",")]
        elif line and not line.startswith("#"):
            name = line.removesuffix(":")
            types[name] = []
    return types


def _field(text: str) -> Field:
    if (match := FIELD.fullmatch(text)) is None:
        raise ValueError(f"builtin.types: {text!r} is not a field")
    number = tuple(int(each) for each in (match["number"] or "").split("/") if each)
    return Field(match["name"], match["type"], bool(match["required"]), match["default"], number)


@cache
def structure(name: str) -> Schema:
    """The schema of a named type; the same object each time, never to be changed."""
    properties: dict[str, Schema] = {}
    for field in table()[name]:
        schema = _schema(field.type)
        properties[field.name] = (
            schema if field.default is None else schema | {"default": _default(schema, field)}
        )
    required = [field.name for field in table()[name] if field.required]
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def whole(name: str) -> Schema:
    """The schema of a kind: its type with apiVersion, kind and metadata."""
    schema = structure(name)
    common = {
        "apiVersion": PRIMITIVES["string"],
        "kind": PRIMITIVES["string"],
        "metadata": structure("ObjectMeta"),
    }
    return schema | {"properties": common | schema["properties"]}


def _schema(text: str) -> Schema:
    if text.startswith("[]"):
        few = {"minItems": 1} if text.endswith("+") else {}
        return {"type": "array", "items": _schema(text[2:].removesuffix("+"))} | few
    if text.startswith("{}"):
        return {"type": "object", "additionalProperties": _schema(text[2:])}
    if "|" in text:
        return {"type": "string", "enum": text.split("|")}
    if match := RANGE.fullmatch(text):
        high = {"maximum": int(match["high"])} if match["high"] else {}
        return {"type": "integer", "minimum": int(match["low"])} | high
    return dict(PRIMITIVES[text]) if text in PRIMITIVES else structure(text)


def _default(schema: Schema, field: Field) -> Any:
    assert field.default is not None
    return field.default.strip('"') if schema.get("type") == "string" else json.loads(field.default)
