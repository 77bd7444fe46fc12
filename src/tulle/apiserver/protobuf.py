"""Kubernetes' protobuf form of objects, for reading what clients send: kubectl 1.32 creates with it.

Answers are always JSON, which such clients accept too.  The wire format is that of protobuf.dev's "Encoding";
field numbers stand in ``builtin.types``.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tulle.apiserver.status import StatusError, bad_request
from tulle.apiserver.types import Field, table

MEDIA = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
TYPE_META, RAW = 1, 2
METADATA = Field("metadata", "ObjectMeta", False, None, (1,))


def decode(body: bytes) -> dict[str, Any]:
    """An object from its envelope (runtime.Unknown): its type, and the bytes of its own message."""
    if not body.startswith(MAGIC):
        raise bad_request("the object provided is unrecognized: not a Kubernetes protobuf message")
    try:
        envelope = dict(_entries(body[len(MAGIC) :]))
        version, kind = (each.decode() for each in _first_two(envelope.get(TYPE_META, b"")))
        if kind not in table():
            raise StatusError(415, f"objects of kind {kind!r} are read as JSON only")
        fields = table()[kind] if kind == "DeleteOptions" else [METADATA, *table()[kind]]
        return {"apiVersion": version, "kind": kind, **_message(fields, envelope.get(RAW, b""), kind)}
    except (IndexError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise bad_request(f"the object provided is unrecognized: {error}") from error


def _first_two(message: bytes) -> tuple[bytes, bytes]:
    found = dict(_entries(message))
    return found.get(1, b""), found.get(2, b"")


def _entries(message: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and raw values, in the order of the message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
            case 2:
                size, at = _varint(message, at)
                if at + size > len(message):
                    raise IndexError("the protobuf message is cut off")
                yield tag >> 3, message[at : at + size]
                at += size
            case other:
                raise IndexError(f"unexpected wire type {other} in the protobuf message")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _message(fields: list[Field], message: bytes, path: str) -> dict[str, Any]:
    known = {field.number: field for field in fields if field.number}
    inlined = {number[0] for number in known if len(number) == 2}
    found: dict[str, Any] = {}
    for number, raw in _entries(message):
        if number in inlined:
            for inner, value in _entries(raw):
                _put(found, known.get((number, inner)), value, f"{path}, field {number}/{inner}")
        else:
            _put(found, known.get((number,)), raw, f"{path}, field {number}")
    return found


def _put(found: dict[str, Any], field: Field | None, raw: Any, path: str) -> None:
    """Adds a value; but zero values, which Go sends for absent ones, only to fields that have a default."""
    if field is None:
        if raw:
            raise StatusError(415, f"{path} is read as JSON only")
    elif field.type.startswith("{}"):
        key, value = _first_two(raw)
        found.setdefault(field.name, {})[key.decode()] = _value(field.type[2:], value, field.name)
    elif field.type.startswith("[]"):
        item = field.type[2:].removesuffix("+")
        found.setdefault(field.name, []).append(_value(item, raw, field.name))
    elif raw or field.type in table() or (field.default is not None and raw != b""):
        found[field.name] = _value(field.type, raw, field.name)


def _value(text: str, raw: Any, path: str) -> Any:
    match text:
        case "bool":
            return bool(raw)
        case "bytes":
            return b64encode(raw).decode()
        case "time":
            seconds = dict(_entries(raw)).get(1, 0)
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case "quantity":
            return _first_two(raw)[0].decode()
        case "intstr":
            found = dict(_entries(raw))
            return found.get(3, b"").decode() if found.get(1) else found.get(2, 0)
        case "object":
            return _opaque(raw, path)
        case _ if text in table():
            return _message(table()[text], raw, path)
    # Negative numbers are sent as 64-bit two's complement.
    return (raw - (1 << 64) if raw >> 63 else raw) if isinstance(raw, int) else raw.decode()


def _opaque(raw: bytes, path: str) -> dict[str, Any]:
    """A message whose fields stand nowhere here can only be taken when there is nothing in it."""
    if any(value for _, value in _entries(raw)):
        raise StatusError(415, f"{path} is read as JSON only")
    return {}
