"""Errors as Kubernetes sends them: ``Status`` objects, with its reasons and its wording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tulle.errors import ApiError

if TYPE_CHECKING:
    from tulle.apiserver.kinds import Kind

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    501: "NotImplemented",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing wrong with an object: ``field`` is its path, as in ``spec.containers[0].name``."""

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def shown(value: object) -> str:
    """A value the way Kubernetes quotes it inside a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return f"[{','.join(map(shown, value))}]"
    return str(value) if isinstance(value, int | float) else "null" if value is None else "{...}"


def required(field: str, detail: str = "") -> Cause:
    return Cause("FieldValueRequired", field, "Required value" + (f": {detail}" if detail else ""))


def bad_value(field: str, value: object, detail: str) -> Cause:
    return Cause("FieldValueInvalid", field, f"Invalid value: {shown(value)}: {detail}")


def wrong_type(field: str, value: object, detail: str) -> Cause:
    return Cause("FieldValueTypeInvalid", field, f"Invalid value: {shown(value)}: {detail}")


def unsupported(field: str, value: object, supported: Iterable[object]) -> Cause:
    values = ", ".join(shown(each) for each in supported)
    return Cause(
        "FieldValueNotSupported", field, f"Unsupported value: {shown(value)}: supported values: {values}"
    )


def forbidden_change(field: str, detail: str) -> Cause:
    return Cause("FieldValueForbidden", field, f"Forbidden: {detail}")


def too_many(field: str, count: int, limit: int) -> Cause:
    return Cause("FieldValueTooMany", field, f"Too many: {count}: must have at most {limit} items")


def duplicate(field: str, value: object) -> Cause:
    return Cause("FieldValueDuplicate", field, f"Duplicate value: {shown(value)}")


class StatusError(ApiError):
    """An ``ApiError`` that this server answers with, and the ``details`` of its Status object."""

    def __init__(
        self, code: int, message: str, details: dict[str, Any] | None = None, reason: str = ""
    ) -> None:
        super().__init__(code, reason or REASONS[code], message)
        self.details = details or {}


def body(error: ApiError) -> dict[str, Any]:
    """The Status object of an error."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": str(error),
        "reason": error.reason,
        "details": getattr(error, "details", {}),
        "code": error.code,
    }


def success(kind: Kind, name: str, uid: str) -> dict[str, Any]:
    """What a delete answers when the object is gone at once."""
    details = _named(kind, name) | {"uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _named(kind: Kind, name: str) -> dict[str, Any]:
    group = {"group": kind.group} if kind.group else {}
    return {"name": name, **group, "kind": kind.plural}


def bad_request(message: str) -> StatusError:
    return StatusError(400, message)


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized")


def unknown_path() -> StatusError:
    return StatusError(404, "the server could not find the requested resource")


def not_found(kind: Kind, name: str) -> StatusError:
    return StatusError(404, f'{kind.resource} "{name}" not found', _named(kind, name))


def already_exists(kind: Kind, name: str) -> StatusError:
    return StatusError(409, f'{kind.resource} "{name}" already exists', _named(kind, name), "AlreadyExists")


def conflict(kind: Kind, name: str, why: str) -> StatusError:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return StatusError(409, message, _named(kind, name))


def forbidden(kind: Kind, name: str, why: str, causes: Iterable[Cause] = ()) -> StatusError:
    named = f'{kind.resource} "{name}"' if name else kind.resource
    return StatusError(403, f"{named} is forbidden: {why}", _named(kind, name) | _causes(causes))


def method_not_allowed(kind: Kind, verb: str) -> StatusError:
    return StatusError(
        405, f'{verb} is not supported on resources of kind "{kind.resource}"', _named(kind, "")
    )


def expired(message: str) -> StatusError:
    return StatusError(410, message)


def ahead(current: int, asked: int) -> StatusError:
    """A client has seen a version that this server has not reached: its state was replaced."""
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    cause = Cause("ResourceVersionTooLarge", "", "Too large resource version")
    return StatusError(504, message, _causes([cause]) | {"retryAfterSeconds": 1})


def internal(why: str) -> StatusError:
    return StatusError(500, f"Internal error occurred: {why}")


def invalid(kind: Kind, name: str, causes: list[Cause]) -> StatusError:
    """422 with every cause, worded as ``Pod "x" is invalid: spec.containers: Required value``."""
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    whole = str(causes[0]) if len(causes) == 1 else f"[{', '.join(map(str, causes))}]"
    details = _named(kind, name) | {"kind": kind.kind} | _causes(causes)
    return StatusError(422, f'{qualified} "{name}" is invalid: {whole}', details)


def _causes(causes: Iterable[Cause]) -> dict[str, Any]:
    listed = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
    return {"causes": listed} if listed else {}
