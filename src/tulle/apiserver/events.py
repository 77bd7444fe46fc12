"""events.k8s.io/v1: the same stored Events as v1, under other names of fields."""

from __future__ import annotations

from typing import Any

from tulle.apiserver.kinds import Object

RENAMED = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
RESTORED = {new: old for old, new in RENAMED.items()}


def present(stored: Object) -> Object:
    return {RENAMED.get(key, key): value for key, value in stored.items()} | {
        "apiVersion": "events.k8s.io/v1"
    }


def accept(given: Object) -> Object:
    return {RESTORED.get(key, key): value for key, value in given.items()} | {"apiVersion": "v1"}


def schema(core: dict[str, Any]) -> dict[str, Any]:
    """The schema of v1 Events, renamed."""
    properties = {RENAMED.get(key, key): value for key, value in core["properties"].items()}
    return core | {"properties": properties, "required": [RENAMED.get(key, key) for key in core["required"]]}
