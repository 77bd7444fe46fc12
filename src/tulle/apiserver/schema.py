"""Structural schemas at work: one walk over an object prunes, defaults and validates it.

The same walk serves built-in kinds (schemas from ``types``) and custom resources (schemas from their
CustomResourceDefinition).  A schema is first made into a ``Shape``, because looking its keywords up anew for
each value was measured to be most of the cost of a create.  Rules in CEL (``x-kubernetes-validations``) are
not evaluated.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tulle.apiserver.status import Cause, bad_value, required, shown, unsupported, wrong_type

TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
PRESERVES = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"
EMBEDDED = ("apiVersion", "kind", "metadata")
JUNCTIONS = ("allOf", "anyOf", "oneOf", "not")
Limit = tuple[Callable[[Any, Any], Any], str]
LIMITS: Mapping[str, Limit] = {
    "minimum": (operator.ge, "should be greater than or equal to {}"),
    "maximum": (operator.le, "should be less than or equal to {}"),
    "minLength": (lambda value, limit: len(value) >= limit, "should be at least {} chars long"),
    "maxLength": (lambda value, limit: len(value) <= limit, "should be at most {} chars long"),
    "minItems": (lambda value, limit: len(value) >= limit, "should have at least {} items"),
    "maxItems": (lambda value, limit: len(value) <= limit, "should have at most {} items"),
    "minProperties": (lambda value, limit: len(value) >= limit, "should have at least {} properties"),
    "maxProperties": (lambda value, limit: len(value) <= limit, "should have at most {} properties"),
    "pattern": (lambda value, limit: re.search(limit, value), "should match '{}'"),
    "multipleOf": (lambda value, limit: value % limit == 0, "should be a multiple of {}"),
    "enum": (lambda value, limit: value in limit, "should be one of {}"),
}


@dataclass(slots=True)
class Findings:
    """What a walk found: ``unknown`` fields (which it removed), values of the wrong type, other causes."""

    unknown: list[str] = field(default_factory=list)
    mistyped: list[Cause] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)


class Shape:
    """A schema, its keywords looked up once."""

    __slots__ = (
        "additional",
        "defaults",
        "expected",
        "items",
        "keeps",
        "limits",
        "nullable",
        "plain",
        "properties",
        "required",
        "types",
    )

    def __init__(self, schema: Mapping[str, Any]) -> None:
        additional = schema.get("additionalProperties")
        self.expected: str = schema.get("type", "integer or string")
        self.types = (int, float, str) if schema.get(INT_OR_STRING) else TYPES.get(schema.get("type", ""))
        self.nullable = bool(schema.get("nullable"))
        self.properties = {key: Shape(each) for key, each in (schema.get("properties") or {}).items()}
        if schema.get("x-kubernetes-embedded-resource"):
            self.properties = {key: Shape({PRESERVES: True}) for key in EMBEDDED} | self.properties
        self.additional = Shape(additional) if isinstance(additional, dict) else None
        self.keeps = bool(schema.get(PRESERVES)) or additional is True
        self.items = Shape(schema["items"]) if "items" in schema else None
        children = (schema.get("properties") or {}).items()
        self.defaults = [(key, each["default"]) for key, each in children if "default" in each]
        self.required: tuple[str, ...] = tuple(schema.get("required", ()))
        self.limits = [(key, each) for key, each in schema.items() if key in LIMITS or key in JUNCTIONS]
        self.plain = self.types[0] if self.types in ((str,), (bool,), (int,)) and not self.limits else None
        """The exact type of a value about which there is nothing more to find out."""

    def settle(self, value: Any) -> Findings:
        """Prunes and defaults ``value`` in place and validates it."""
        findings = Findings()
        _walk(self, value, "", findings)
        return findings


def _walk(shape: Shape, value: Any, path: str, found: Findings) -> None:
    if not _fits(shape, value):
        detail = f"{path} in body must be of type {shape.expected}: {shown(value)}"
        found.mistyped.append(wrong_type(path, value, detail))
        return
    if isinstance(value, dict):
        _object(shape, value, path, found)
    elif isinstance(value, list) and (items := shape.items) is not None:
        for index, each in enumerate(value):
            if type(each) is not items.plain:
                _walk(items, each, f"{path}[{index}]", found)
    for keyword, limit in shape.limits:
        if keyword in JUNCTIONS:
            found.causes += _combined(keyword, limit, value, path)
        elif not LIMITS[keyword][0](value, limit):
            found.causes.append(_outside(keyword, limit, value, path))


def _fits(shape: Shape, value: Any) -> bool:
    if shape.types is None or (value is None and shape.nullable):
        return True
    if isinstance(value, bool):
        return shape.types == (bool,)
    return isinstance(value, shape.types) or (
        shape.types == (int,) and isinstance(value, float) and value.is_integer()
    )


def _object(shape: Shape, value: dict[str, Any], path: str, found: Findings) -> None:
    for key, default in shape.defaults:
        if value.get(key) is None:
            value[key] = deepcopy(default) if isinstance(default, dict | list) else default
    for key in list(value):
        each = value[key]
        child = shape.properties.get(key, shape.additional)
        if child is None:
            if not shape.keeps:
                del value[key]
                found.unknown.append(_join(path, key))
        elif each is None and not child.nullable:
            del value[key]
        elif type(each) is not child.plain:
            _walk(child, each, _join(path, key), found)
    for key in shape.required:
        if key not in value:
            found.causes.append(required(_join(path, key)))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _outside(keyword: str, limit: Any, value: Any, path: str) -> Cause:
    if keyword == "enum":
        return unsupported(path, value, limit)
    if keyword == "minItems" and not value and limit == 1:
        return required(path)
    measured = value if isinstance(value, str | int | float) else len(value)
    return bad_value(path, measured, f"{path} in body {LIMITS[keyword][1].format(limit)}")


def _combined(keyword: str, schemas: Any, value: Any, path: str) -> Iterable[Cause]:
    """The logical junctions; they only validate, so each runs on a copy that keeps unknown fields."""
    verdicts: list[list[Cause]] = []
    for schema in [schemas] if keyword == "not" else schemas:
        found = Findings()
        _walk(Shape({PRESERVES: True, **schema}), deepcopy(value), path, found)
        verdicts.append(found.mistyped + found.causes)
    passed = sum(not causes for causes in verdicts)
    if keyword == "allOf":
        return [cause for causes in verdicts for cause in causes]
    if keyword == "not":
        return (
            [bad_value(path, value, f"{path} in body must not validate the schema (not)")] if passed else []
        )
    if passed == 0 or (keyword == "oneOf" and passed > 1):
        words = "at least one schema" if keyword == "anyOf" else "one and only one schema"
        return [bad_value(path, value, f"{path} in body must validate {words} ({keyword})")]
    return []


def flaws(schema: Any, path: str) -> list[Cause]:
    """What keeps a CustomResourceDefinition's schema from being used: unknown types, broken patterns."""
    if not isinstance(schema, dict):
        return [bad_value(path, schema, "must be a schema")]
    causes: list[Cause] = []
    if "type" in schema and schema["type"] not in TYPES:
        causes.append(unsupported(f"{path}.type", schema["type"], TYPES))
    elif "type" not in schema and not schema.keys() & {INT_OR_STRING, PRESERVES}:
        causes.append(required(f"{path}.type", "must not be empty for specified object fields"))
    try:
        re.compile(schema.get("pattern", ""))
    except (re.error, TypeError) as error:
        detail = f"must be a valid regular expression: {error}"
        causes.append(bad_value(f"{path}.pattern", schema["pattern"], detail))
    children = {f"{path}.properties[{name}]": each for name, each in (schema.get("properties") or {}).items()}
    children |= {f"{path}.{key}": schema[key] for key in ("items", "additionalProperties") if key in schema}
    for where, child in children.items():
        causes += [] if isinstance(child, bool) else flaws(child, where)
    return causes
