"""The four ways to patch an object, as pure functions.

JSON Patch (RFC 6902 with pointers of RFC 6901) and JSON Merge Patch (RFC 7386) stand here; the two that
know what Kubernetes' lists mean, strategic merge and server-side apply, stand in `strategic`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from tulle.apiserver import strategic
from tulle.errors import ApiError

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]*")


class _OperationFailed(Exception):
    """One operation cannot be carried out; the message says why, `json_patch` says which."""


def apply_patch(content_type: str, current: dict[str, Any], patch: Any, kind: str) -> dict[str, Any]:
    """The object that ``patch`` makes of ``current``; neither is modified, and nothing is shared with them.

    Raises `ApiError` 415 for a content type that is not served (strategic merge of a custom resource
    among them), 400 for a patch that is malformed, 422 for one that does not fit the object.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    current, patch = _clone(current), _clone(patch)
    if media_type == JSON_PATCH:
        patched = json_patch(current, patch)
    elif not isinstance(patch, dict):
        raise ApiError(400, "BadRequest", f"the patch must be an object, not {_json_type(patch)}")
    elif media_type == MERGE_PATCH:
        patched = merge_patch(current, patch)
    elif media_type == APPLY_PATCH:
        patched = strategic.apply(current, patch, strategic.list_keys(current or patch, kind))
    elif media_type == STRATEGIC_MERGE_PATCH and strategic.is_built_in(current):
        patched = strategic.merge(current, patch, strategic.list_keys(current, kind))
    else:
        raise _unsupported_media_type(current)
    if not isinstance(patched, dict):
        raise ApiError(422, "Invalid", f"the patch turns the object into {_json_type(patched)}")
    return patched


def merge_patch(current: Any, patch: Any) -> Any:
    """RFC 7386, section 2: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(document: Any, operations: Any) -> Any:
    """RFC 6902: all operations or none; ``document`` is changed in place where it can be."""
    if not isinstance(operations, list):
        raise ApiError(400, "BadRequest", f"a JSON patch is an array, not {_json_type(operations)}")
    # The document hangs on a key of its own, so that the pointer "" needs no special case.
    holder: dict[str, Any] = {"": document}
    for number, operation in enumerate(operations):
        if not isinstance(operation, dict) or operation.get("op") not in _OPERATIONS:
            known = ", ".join(_OPERATIONS)
            raise ApiError(
                400, "BadRequest", f"operation {number} of the JSON patch: op must be one of {known}"
            )
        try:
            _OPERATIONS[operation["op"]](holder, operation)
        except _OperationFailed as error:
            what = f"operation {number} of the JSON patch ({operation['op']} {operation.get('path')!r})"
            raise ApiError(422, "Invalid", f"{what}: {error}") from error
    return holder.get("")


def _add(holder: Any, operation: dict[str, Any]) -> None:
    _insert(holder, _pointer(operation, "path"), _value(operation))


def _remove(holder: Any, operation: dict[str, Any]) -> None:
    _take(holder, _pointer(operation, "path"))


def _replace(holder: Any, operation: dict[str, Any]) -> None:
    parent, key = _locate(holder, _pointer(operation, "path"))
    parent[key] = _value(operation)


def _move(holder: Any, operation: dict[str, Any]) -> None:
    source, target = _pointer(operation, "from"), _pointer(operation, "path")
    if len(target) > len(source) and target[: len(source)] == source:
        raise _OperationFailed("a value cannot be moved into itself")
    _insert(holder, target, _take(holder, source))


def _copy(holder: Any, operation: dict[str, Any]) -> None:
    parent, key = _locate(holder, _pointer(operation, "from"))
    _insert(holder, _pointer(operation, "path"), _clone(parent[key]))


def _test(holder: Any, operation: dict[str, Any]) -> None:
    parent, key = _locate(holder, _pointer(operation, "path"))
    if not _equal(parent[key], _value(operation)):
        raise _OperationFailed("the value there is another")


_OPERATIONS: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _pointer(operation: dict[str, Any], field: str) -> list[str]:
    """The reference tokens of the JSON pointer in ``field``, after the holder's own."""
    text = operation.get(field)
    if not isinstance(text, str) or (text and not text.startswith("/")) or re.search("~(?![01])", text):
        raise _OperationFailed(f"{field} must be a JSON pointer such as /metadata/labels/app")
    return [token.replace("~1", "/").replace("~0", "~") for token in text.split("/")]


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise _OperationFailed("value is missing")
    return operation["value"]


def _parent(holder: Any, tokens: list[str]) -> Any:
    container = holder
    for depth, token in enumerate(tokens[:-1]):
        key = _existing(container, token, tokens[: depth + 1])
        container = container[key]
    return container


def _locate(holder: Any, tokens: list[str]) -> tuple[Any, Any]:
    """The container and the key or index of a value that exists."""
    parent = _parent(holder, tokens)
    return parent, _existing(parent, tokens[-1], tokens)


def _existing(container: Any, token: str, tokens: list[str]) -> str | int:
    if isinstance(container, dict) and token in container:
        return token
    if isinstance(container, list) and _ARRAY_INDEX.fullmatch(token) and int(token) < len(container):
        return int(token)
    raise _OperationFailed(f"there is nothing at {'/'.join(tokens)!r}")


def _insert(holder: Any, tokens: list[str], value: Any) -> None:
    parent, token = _parent(holder, tokens), tokens[-1]
    if isinstance(parent, dict):
        parent[token] = value
    elif isinstance(parent, list) and token == "-":
        parent.append(value)
    elif isinstance(parent, list) and _ARRAY_INDEX.fullmatch(token) and int(token) <= len(parent):
        parent.insert(int(token), value)
    else:
        raise _OperationFailed(f"nothing can be added at {'/'.join(tokens)!r}")


def _take(holder: Any, tokens: list[str]) -> Any:
    parent, key = _locate(holder, tokens)
    return parent.pop(key)


def _equal(left: Any, right: Any) -> bool:
    """RFC 6902, section 4.6: numbers by value, but unlike in Python true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _clone(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _unsupported_media_type(current: dict[str, Any]) -> ApiError:
    accepted = [JSON_PATCH, MERGE_PATCH, APPLY_PATCH]
    if strategic.is_built_in(current):
        accepted.append(STRATEGIC_MERGE_PATCH)
    text = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", text + ", ".join(accepted))
