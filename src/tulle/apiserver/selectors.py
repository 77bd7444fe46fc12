"""Label and field selectors, read from their query strings into predicates on objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tulle.apiserver.kinds import Kind
from tulle.apiserver.status import bad_request

Predicate = Callable[[dict[str, Any]], bool]

SET = re.compile(r"(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)")
EQUAL = re.compile(r"(?P<key>[^!=<>\s]+)\s*(?P<op>==|!=|=)\s*(?P<value>[^!=<>\s]*)")
ORDER = re.compile(r"(?P<key>[^!=<>\s]+)\s*(?P<op>[<>])\s*(?P<value>-?\d+)")
EXISTS = re.compile(r"(?P<not>!?)\s*(?P<key>[^!=<>\s(),]+)")
COMMA = re.compile(r",(?![^()]*\))")

LabelTest = Callable[[Mapping[str, str]], bool]


def labels(text: str) -> Predicate | None:
    """Reads a labelSelector such as ``a=b,c in (d,e),!f``; None when it selects everything."""
    if not (tests := [_label_test(each.strip()) for each in COMMA.split(text) if each.strip()]):
        return None

    def matches(obj: dict[str, Any]) -> bool:
        found = obj["metadata"].get("labels") or {}
        return all(test(found) for test in tests)

    return matches


def _label_test(text: str) -> LabelTest:
    if match := SET.fullmatch(text):
        key, values = match["key"], {each.strip() for each in match["values"].split(",")}
        if match["op"] == "in":
            return lambda found: key in found and found[key] in values
        return lambda found: found.get(key) not in values
    if match := EQUAL.fullmatch(text):
        key, value = match["key"], match["value"]
        if match["op"] == "!=":
            return lambda found: found.get(key) != value
        return lambda found: found.get(key) == value
    if match := ORDER.fullmatch(text):
        return _order_test(match["key"], int(match["value"]), -1 if match["op"] == "<" else 1)
    if match := EXISTS.fullmatch(text):
        key, wanted = match["key"], not match["not"]
        return lambda found: (key in found) is wanted
    raise bad_request(f"unable to parse requirement: found '{text}', expected: in, notin, =, ==, !=, >, <")


def _order_test(key: str, bound: int, sign: int) -> LabelTest:
    def test(found: Mapping[str, str]) -> bool:
        value = found.get(key, "")
        return value.lstrip("-").isdigit() and (int(value) - bound) * sign > 0

    return test


def fields(text: str, kind: Kind) -> tuple[Predicate | None, str]:
    """Reads a fieldSelector; also returns the one name it asks for, if it does (empty otherwise)."""
    tests: list[tuple[tuple[str, ...], str, str, bool]] = []
    name = ""
    for each in filter(None, text.split(",")):
        if (match := EQUAL.fullmatch(each.strip())) is None:
            raise bad_request(f"invalid field selector: {each!r}; can't understand it, expected key=value")
        key, value, equal = match["key"], match["value"], match["op"] != "!="
        if key == "metadata.name" and equal:
            name = value
        absent = kind.fields.get(key, "" if key in ("metadata.name", "metadata.namespace") else None)
        if absent is None:
            where = f'Unable to find "{kind.group}/{kind.version}, Resource={kind.plural}"'
            why = f'label selector "", field selector "{text}": field label not supported: {key}'
            raise bad_request(f"{where} that match {why}")
        tests.append((tuple(key.removeprefix(".").split(".")), value, absent, equal))
    if not tests:
        return None, ""
    return lambda obj: all(
        (look(obj, path, absent) == value) is equal for path, value, absent, equal in tests
    ), name


def look(obj: Any, path: tuple[str, ...], absent: str) -> str:
    """The field at ``path`` as a selector compares it."""
    for step in path:
        obj = obj.get(step) if isinstance(obj, dict) else None
    if isinstance(obj, bool):
        return "true" if obj else "false"
    return absent if obj is None else str(obj)


def both(first: Predicate | None, second: Predicate | None) -> Predicate | None:
    if first is None or second is None:
        return first or second
    return lambda obj: first(obj) and second(obj)


def text(selector: dict[str, Any] | None) -> str:
    """A LabelSelector in its query form."""
    selector = selector or {}
    terms = [f"{key}={value}" for key, value in sorted(selector.get("matchLabels", {}).items())]
    for each in selector.get("matchExpressions", ()):
        key, values = each["key"], ",".join(sorted(each.get("values", ())))
        forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        terms.append(forms.get(each["operator"], f"!{key}"))
    return ",".join(terms)
