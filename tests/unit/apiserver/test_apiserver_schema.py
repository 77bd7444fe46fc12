"""Schemas: pruning, defaults, validation; and the built-in kinds' own."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.apiserver.registry import Registry
from tulle.apiserver.schema import Shape, flaws
from tulle.apiserver.types import structure, table

SCHEMA = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 9},
        "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
        "inner": {
            "type": "object",
            "default": {},
            "properties": {"on": {"type": "boolean", "default": True}},
        },
        "list": {"type": "array", "maxItems": 2, "items": {"type": "string", "pattern": "^a"}},
        "map": {"type": "object", "additionalProperties": {"type": "number"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "port": {"x-kubernetes-int-or-string": True},
        "maybe": {"type": "string", "nullable": True},
        "either": {"type": "integer", "oneOf": [{"minimum": 5}, {"maximum": 3}], "not": {"enum": [7]}},
    },
}


def test_defaults_and_pruning() -> None:
    value: dict[str, Any] = {
        "size": 1,
        "odd": 1,
        "inner": {"odd": 2},
        "free": {"any": [1]},
        "maybe": None,
        "list": None,
    }
    found = Shape(SCHEMA).settle(value)
    assert sorted(found.unknown) == ["inner.odd", "odd"]
    assert value == {"size": 1, "colour": "red", "inner": {"on": True}, "free": {"any": [1]}, "maybe": None}
    assert not found.causes and not found.mistyped


def test_defaults_are_not_shared() -> None:
    shape, first, second = Shape(SCHEMA), {"size": 1}, {"size": 1}
    shape.settle(first)
    shape.settle(second)
    assert first["inner"] is not second["inner"]


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"size": 0}, "size", "Invalid value: 0: size in body should be greater than or equal to 1"),
        ({"size": 10}, "size", "should be less than or equal to 9"),
        ({"size": True}, "size", "must be of type integer: true"),
        ({"size": "1"}, "size", 'must be of type integer: "1"'),
        ({"colour": "green"}, "colour", 'Unsupported value: "green": supported values: "red", "blue"'),
        ({"list": ["b"]}, "list[0]", "list[0] in body should match '^a'"),
        ({"list": ["a", "a", "a"]}, "list", "should have at most 2 items"),
        ({"map": {"k": "v"}}, "map.k", "must be of type number"),
        ({"port": True}, "port", "must be of type integer or string"),
        ({"inner": []}, "inner", "must be of type object"),
        ({"either": 4}, "either", "must validate one and only one schema (oneOf)"),
        ({"either": 7}, "either", "must not validate the schema (not)"),
        ({"size": None}, "size", "Required value"),
    ],
)
def test_what_is_wrong_names_the_field(change: dict[str, Any], path: str, words: str) -> None:
    found = Shape(SCHEMA).settle({"size": 1} | change)
    (cause,) = found.mistyped + found.causes
    assert cause.field == path
    assert words in cause.message


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "strin"}, 'schema.type: Unsupported value: "strin"'),
        ({"type": "object", "properties": {"a": {}}}, "schema.properties[a].type: Required value"),
        ({"type": "string", "pattern": "("}, "schema.pattern: Invalid value"),
        ({"type": "array", "items": 1}, "schema.items: Invalid value: 1: must be a schema"),
    ],
)
def test_schemas_that_cannot_be_used(schema: dict[str, Any], words: str) -> None:
    assert any(words in str(cause) for cause in flaws(schema, "schema"))


def test_every_type_of_the_table_is_used_and_whole() -> None:
    for name in table():
        structure(name)
    kinds = list(Registry())
    assert {kind.kind for kind in kinds} >= {"Pod", "Node", "NetworkPolicy", "Deployment", "IPAddress"}
    for fields in table().values():
        numbers = [field.number for field in fields if field.number]
        assert len(numbers) == len(set(numbers)) or {"lastProbeTime"} <= {field.name for field in fields}
