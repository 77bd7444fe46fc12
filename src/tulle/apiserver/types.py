"""Reads ``builtin.types``, the compact table of the built-in kinds' fields, into OpenAPI v3 schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
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
FIELD = re.compile(r"(?P<name>\w+)(?P<required>!?) (?P<type>[^ ]+)(?: = (?P<default>.+))?")
RANGE = re.compile(r"int\((?P<low>\d+)\.\.(?P<high>\d*)\)")


@cache
def _lines() -> dict[str, list[str]]:
    """Each type's fields, as text."""
    types: dict[str, list[str]] = {}
    name = ""
    for line in files("tulle.apiserver").joinpath("builtin.types").read_text().splitlines():
        if line.startswith("  "):
            types[name] += [each.strip() for each in line.split(",")]
        elif line and not line.startswith("#"):
            name = line.removesuffix(":")
            types[name] = []
    return types


@cache
def structure(name: str) -> Schema:
    """The schema of a named type; the same object each time, never to be changed."""
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for text in _lines()[name]:
        if (match := FIELD.fullmatch(text)) is None:
            raise ValueError(f"builtin.types: {name}: {text!r} is not a field")
        schema = _parse(match["type"])
        if match["default"]:
            schema = schema | {"default": _default(schema, match["default"])}
        if match["required"]:
            required.append(match["name"])
        properties[match["name"]] = schema
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


def _parse(text: str) -> Schema:
    if text.startswith("[]"):
        few = {"minItems": 1} if text.endswith("+") else {}
        return {"type": "array", "items": _parse(text[2:].removesuffix("+"))} | few
    if text.startswith("{}"):
        return {"type": "object", "additionalProperties": _parse(text[2:])}
    if "|" in text:
        return {"type": "string", "enum": text.split("|")}
    if match := RANGE.fullmatch(text):
        high = {"maximum": int(match["high"])} if match["high"] else {}
        return {"type": "integer", "minimum": int(match["low"])} | high
    return dict(PRIMITIVES[text]) if text in PRIMITIVES else structure(text)


def _default(schema: Schema, text: str) -> Any:
    return text.strip('"') if schema.get("type") == "string" else json.loads(text)
