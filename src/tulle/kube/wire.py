"""What the API sends: lists, watch events and Status objects. Pure: bytes in, values and errors out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Generic, Literal, cast

import msgspec

from tulle.errors import ApiError, Conflict, Forbidden, Gone, NotFound
from tulle.kube.resources import Item, Resource, T, decode_bookmark, decode_item

ERRORS: dict[int, type[ApiError]] = {401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone}


@dataclass(frozen=True)
class ListResult(Generic[T]):
    """A whole collection as it was at ``resource_version``; ``entries`` also has what cannot be decoded."""

    resource_version: str
    entries: list[Item[T]]

    @property
    def items(self) -> list[T]:
        """The objects that could be decoded."""
        return [entry.value for entry in self.entries if entry.value is not None]


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One event; of a BOOKMARK only ``item.version`` counts. ERROR events are raised, never returned."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    item: Item[T]


@dataclass(frozen=True)
class Page:
    """One page of a list, its objects not yet decoded."""

    resource_version: str
    token: str
    items: list[msgspec.Raw] = field(repr=False)


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    token: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class Cause(msgspec.Struct):
    """One of a Status' causes: which field, and what is wrong with it."""

    reason: str = ""
    message: str = ""
    field: str = ""


class _Details(msgspec.Struct):
    causes: list[Cause] | None = None


class Status(msgspec.Struct):
    """A v1 Status, as Kubernetes answers where it has no object to give."""

    status: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None

    @property
    def causes(self) -> list[Cause]:
        return (self.details and self.details.causes) or []


def decode_page(body: bytes) -> Page:
    """Raises :class:`msgspec.MsgspecError` if ``body`` is not a list."""
    page = msgspec.json.decode(body, type=_List)
    return Page(page.metadata.resource_version, page.metadata.token, page.items or [])


def decode_event(resource: Resource[T], line: bytes) -> WatchEvent[T]:
    """Raises the :class:`ApiError` that an ERROR event carries."""
    event = msgspec.json.decode(line, type=_Event)
    if event.type == "ERROR":
        raise status_error(msgspec.json.decode(event.object, type=Status))
    if event.type == "BOOKMARK":
        return WatchEvent("BOOKMARK", decode_bookmark(event.object))
    kind = cast(Literal["ADDED", "MODIFIED", "DELETED"], event.type)
    return WatchEvent(kind, decode_item(resource, event.object))


def body_error(code: int, body: bytes) -> ApiError:
    """The error that an HTTP answer means; what is no Status (a proxy's page, say) is quoted in part."""
    try:
        status = msgspec.json.decode(body, type=Status)
    except msgspec.MsgspecError:
        status = Status(message=f"HTTP {code}: {body[:200].decode(errors='replace').strip()}")
    return status_error(msgspec.structs.replace(status, code=code))


def status_error(status: Status) -> ApiError:
    """410, and a resourceVersion that the server has not reached (it was restored), both mean: list again."""
    ahead = any(cause.reason == "ResourceVersionTooLarge" for cause in status.causes)
    error = Gone if ahead else ERRORS.get(status.code, ApiError)
    return error(status.code, status.reason, status.message)


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a stream; one line may be as long as an object (1.5 MB and more).

    An unfinished line at the end is dropped: the connection broke inside it.
    """
    parts: list[bytes] = []
    async for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        parts.append(first)
        for part in rest:
            line = b"".join(parts)
            parts = [part]
            if line.strip():
                yield line
