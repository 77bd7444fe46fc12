"""Structural schemas at work: one walk over an object prunes, defaults and validates it.

The same walk serves built-in kinds (schemas from ``types``) and custom resources (schemas from their
CustomResourceDefinition).  Rules in CEL (``x-kubernetes-validations``) are not evaluated.
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
EMBEDDED = ("apiVersion", "kind", "metadata")
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
PRESERVES = "x-kubernetes-preserve-unknown-fields"
JUNCTIONS = ("allOf", "anyOf", "oneOf", "not")


@dataclass(slots=True)
class Findings:
    """What a walk found: ``unknown`` fields (which it removed), values of the wrong type, other causes."""

    unknown: list[str] = field(default_factory=list)
    mistyped: list[Cause] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)


def settle(schema: Mapping[str, Any], value: Any) -> Findings:
    """Prunes and defaults ``value`` in place and validates it."""
    findings = Findings()
    _walk(schema, value, "", findings)
    return findings


def _walk(schema: Mapping[str, Any], value: Any, path: str, found: Findings) -> None:
    if not _fits(schema, value):
        expected = schema.get("type", "integer or string")
        found.mistyped.append(
            wrong_type(path, value, f"{path} in body must be of type {expected}: {shown(value)}")
        )
        return
    if isinstance(value, dict):
        _object(schema, value, path, found)
    elif isinstance(value, list):
        items = schema.get("items")
        if items is not None:
            for index, each in enumerate(value):
                _walk(items, each, f"{path}[{index}]", found)
    if len(schema) > 1:
        _limits(schema, value, path, found)


def _fits(schema: Mapping[str, Any], value: Any) -> bool:
    if value is None and schema.get("nullable"):
        return True
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, int | float | str) and not isinstance(value, bool)
    if (name := schema.get("type")) is None:
        return True
    if isinstance(value, bool):
        return bool(name == "boolean")
    return isinstance(value, TYPES[name]) or (
        name == "integer" and isinstance(value, float) and value.is_integer()
    )


def _object(schema: Mapping[str, Any], value: dict[str, Any], path: str, found: Findings) -> None:
    properties: Mapping[str, Any] = schema.get("properties", {})
    additional = schema.get("additionalProperties")
    keeps = bool(schema.get(PRESERVES)) or additional is True
    embedded = EMBEDDED if schema.get("x-kubernetes-embedded-resource") else ()
    for key in list(value):
        child = properties.get(key, additional if isinstance(additional, dict) else None)
        if child is None:
            if not keeps and key not in embedded:
                del value[key]
                found.unknown.append(_join(path, key))
        elif value[key] is None and not child.get("nullable"):
            del value[key]
    for key, child in properties.items():
        if "default" in child and key not in value:
            value[key] = deepcopy(child["default"])
    for key in schema.get("required", ()):
        if key not in value:
            found.causes.append(required(_join(path, key)))
    for key, each in value.items():
        child = properties.get(key, additional if isinstance(additional, dict) else None)
        if child is not None:
            _walk(child, each, _join(path, key), found)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _limits(schema: Mapping[str, Any], value: Any, path: str, found: Findings) -> None:
    for keyword, limit in schema.items():
        if keyword in LIMITS:
            holds, words = LIMITS[keyword]
            if not holds(value, limit):
                found.causes.append(_outside(keyword, limit, words, value, path))
        elif keyword in JUNCTIONS:
            found.causes += _combined(keyword, limit, value, path)


def _outside(keyword: str, limit: Any, words: str, value: Any, path: str) -> Cause:
    if keyword == "enum":
        return unsupported(path, value, limit)
    if keyword == "minItems" and not value and limit == 1:
        return required(path)
    shown_value = value if isinstance(value, str | int | float) else len(value)
    return bad_value(path, shown_value, f"{path} in body {words.format(limit)}")


def _combined(keyword: str, schemas: Any, value: Any, path: str) -> Iterable[Cause]:
    """The logical junctions; they only validate, so each runs on a copy that keeps unknown fields."""
    verdicts: list[list[Cause]] = []
    for schema in [schemas] if keyword == "not" else schemas:
        found = Findings()
        _walk({PRESERVES: True, **schema}, deepcopy(value), path, found)
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
    elif "type" not in schema and not schema.keys() & {"x-kubernetes-int-or-string", PRESERVES, *JUNCTIONS}:
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
