"""Tables of custom resources, from the ``additionalPrinterColumns`` of their CustomResourceDefinition.

Their ``jsonPath`` is the subset of JSONPath that Kubernetes allows there: fields (a dot in a name written
``\\.``), ``[0]``, ``[*]``, ``['name']`` and ``[?(@.field=="value")]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from tulle.apiserver.times import age_of

Object = dict[str, Any]

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_STEP = re.compile(
    r"\.(?P<field>(?:\\.|[^.\[\\])+)"
    r"|\[(?P<index>\d+|\*)\]"
    r"|\['(?P<quoted>[^']+)'\]"
    r"""|\[\?\(\s*@(?P<left>\.[^=\s]+)\s*==\s*["'](?P<right>[^"']*)["']\s*\)\]"""
)


def custom_columns(additional: list[Object] | None) -> list[Object]:
    """``TableColumnDefinition`` objects: the name, then those of the definition, by default the age."""
    name = {"name": "Name", "type": "string", "format": "name", "priority": 0}
    name["description"] = "Name must be unique within a namespace."
    return [name, *(_definition(column) for column in additional or [_AGE])]


def custom_cells(additional: list[Object] | None, obj: Object, now: datetime) -> list[Any]:
    """One cell per column of `custom_columns`; null where the path leads nowhere or to another type."""
    return [obj["metadata"]["name"], *(_cell(column, obj, now) for column in additional or [_AGE])]


def _definition(column: Object) -> Object:
    return {
        "name": column["name"],
        "type": column["type"],
        "format": column.get("format", ""),
        "description": column.get("description", f"Custom resource definition column: {column['jsonPath']}"),
        "priority": column.get("priority", 0),
    }


def _cell(column: Object, obj: Object, now: datetime) -> Any:
    value = next(_find(obj, column["jsonPath"]), None)
    match column["type"], value:
        case _, None:
            return None
        case "date", str():
            try:
                return age_of({"at": value}, now, "at")
            except ValueError:
                return "<invalid>"
        case "string", str():
            return value
        case "string", _:
            return msgspec.json.encode(value).decode()
        case "boolean", bool():
            return value
        case "integer" | "number", int() | float() if not isinstance(value, bool):
            return int(value) if column["type"] == "integer" else value
    return None


def _find(obj: Any, path: str) -> Iterator[Any]:
    """Everything that ``path`` leads to in ``obj``."""
    found = [obj]
    for step in _steps(path):
        found = [value for each in found for value in _follow(each, step)]
    return iter(found)


def _follow(value: Any, step: dict[str, str]) -> list[Any]:
    if name := step.get("field") or step.get("quoted"):
        name = name.replace("\\", "")
        return [value[name]] if isinstance(value, dict) and name in value else []
    if not isinstance(value, list):
        return []
    if index := step.get("index"):
        return value if index == "*" else value[int(index) : int(index) + 1]
    return [element for element in value if step["right"] in map(str, _find(element, step["left"]))]


@lru_cache(maxsize=1024)
def _steps(path: str) -> list[dict[str, str]]:
    matches = _STEP.finditer(path)
    return [{name: text for name, text in match.groupdict().items() if text is not None} for match in matches]
