"""Single requests to the Kubernetes API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from tulle.errors import ApiUnreachable, Gone
from tulle.kube import streams
from tulle.kube.config import ClusterConfig
from tulle.kube.resources import PODS, Item, Resource, T, decode_item
from tulle.kube.transport import Observer, Transport
from tulle.kube.wire import ListResult, Page, WatchEvent, decode_event, decode_page, lines

PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
FIELD_MANAGER = "tulle"
WATCH_GRACE_SECONDS = 15.0
"""How much later than it promised a server may end a silent watch before we do."""


class Client:
    """``async with Client(config) as client``. Every method raises the :class:`ApiError` that the API
    answered with, or :class:`ApiUnreachable` when there was no (whole) answer. Nothing is retried here.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self._transport = Transport(config)

    def observe(self, observer: Observer) -> None:
        """Before the client is entered: ``observer`` is told of each request from then on."""
        self._transport.observer = observer

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def get(self, resource: Resource[T], name: str, namespace: str | None = None) -> T:
        """One object."""
        body = await self._transport.call("GET", resource.path(namespace, name))
        return self._decode(resource, body)

    async def list(
        self,
        resource: Resource[T],
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = 500,
    ) -> ListResult[T]:
        """The whole collection, fetched ``limit`` at a time.

        If it takes so long that the snapshot expires (410), it is fetched once more, in one piece.
        """
        query = _selectors(label_selector, field_selector)
        try:
            return await self._pages(resource, namespace, {**query, "limit": str(limit)})
        except Gone:
            return await self._pages(resource, namespace, query)

    async def _pages(
        self, resource: Resource[T], namespace: str | None, query: dict[str, str]
    ) -> ListResult[T]:
        entries: list[Item[T]] = []
        token = ""
        while True:
            page = await self._page(resource, namespace, {**query, "continue": token} if token else query)
            entries += [decode_item(resource, raw) for raw in page.items]
            token = page.token
            if not token:
                return ListResult(page.resource_version, entries)

    async def _page(self, resource: Resource[T], namespace: str | None, query: dict[str, str]) -> Page:
        path = resource.path(namespace)
        body = await self._transport.call("GET", path, query)
        try:
            return decode_page(body)
        except msgspec.MsgspecError as error:
            raise ApiUnreachable(f"{self.config.server}{path} answered with no list: {error}") from error

    async def watch(
        self,
        resource: Resource[T],
        resource_version: str,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout_seconds: float = 300.0,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Events after ``resource_version``, until the server ends the watch, by ``timeout_seconds`` at last.

        A peer that is gone without a word is noticed by TCP within half a minute; a server that lives but
        says nothing, shortly after the time at which it should have ended the watch.
        """
        query = {
            **_selectors(label_selector, field_selector),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(int(timeout_seconds)),
        }
        silence = timeout_seconds + WATCH_GRACE_SECONDS
        async with self._transport.stream(resource.path(namespace), query, silence) as chunks:
            async for line in lines(chunks):
                yield self._event(resource, line)

    def _event(self, resource: Resource[T], line: bytes) -> WatchEvent[T]:
        try:
            return decode_event(resource, line)
        except msgspec.MsgspecError as error:
            raise ApiUnreachable(f"{self.config.server} sent a watch event that is none: {error}") from error

    async def create(self, resource: Resource[T], obj: T, namespace: str | None = None) -> T:
        """The object as the API stored it."""
        body = await self._transport.call("POST", resource.path(namespace), content=msgspec.json.encode(obj))
        return self._decode(resource, body)

    async def replace(
        self,
        resource: Resource[T],
        name: str,
        obj: T,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> T:
        """Raises :class:`Conflict` if ``obj`` carries a stale resourceVersion."""
        path = _with_subresource(resource.path(namespace, name), subresource)
        return self._decode(
            resource, await self._transport.call("PUT", path, content=msgspec.json.encode(obj))
        )

    async def patch(
        self,
        resource: Resource[T],
        name: str,
        patch: Any,
        namespace: str | None = None,
        subresource: str | None = None,
        kind: Literal["merge", "strategic", "json", "apply"] = "merge",
    ) -> T:
        """``patch`` is what ``kind`` asks for; ``apply`` takes fields over from other managers."""
        query = {"fieldManager": FIELD_MANAGER} | ({"force": "true"} if kind == "apply" else {})
        path = _with_subresource(resource.path(namespace, name), subresource)
        content = msgspec.json.encode(patch)
        return self._decode(
            resource, await self._transport.call("PATCH", path, query, content, PATCH_TYPES[kind])
        )

    async def delete(
        self,
        resource: Resource[Any],
        name: str,
        namespace: str | None = None,
        grace_period_seconds: int | None = None,
        propagation: Literal["Orphan", "Background", "Foreground"] | None = None,
        uid: str | None = None,
    ) -> None:
        """Asks for the deletion; finalizers and a grace period may let the object live on for a while.

        With ``uid``, raises :class:`Conflict` when another object has got the name meanwhile.
        """
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation is not None:
            options["propagationPolicy"] = propagation
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        await self._transport.call(
            "DELETE", resource.path(namespace, name), content=msgspec.json.encode(options)
        )

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str | None = None,
        tail_lines: int | None = None,
        previous: bool = False,
    ) -> str:
        """What a container has written so far."""
        query = {"container": container} if container else {}
        if tail_lines is not None:
            query["tailLines"] = str(tail_lines)
        if previous:
            query["previous"] = "true"
        body = await self._transport.call("GET", PODS.path(namespace, pod) + "/log", query)
        return body.decode(errors="replace")

    async def exec(
        self,
        namespace: str,
        pod: str,
        command: Sequence[str],
        container: str | None = None,
        stdin: bytes | None = None,
        timeout: float = 60.0,
    ) -> streams.ExecResult:
        """Runs ``command`` to its end. Raises :class:`ApiUnreachable` if that takes over ``timeout`` seconds.

        Servers older than 1.30 cannot pass on the end of ``stdin``: a command that must also work there
        reads a line, not until the end of the file.
        """
        path = PODS.path(namespace, pod) + "/exec"
        query = streams.exec_query(command, container, with_stdin=stdin is not None)
        try:
            async with asyncio.timeout(timeout):
                async with self._transport.websocket(path, query, streams.PROTOCOLS) as socket:
                    return await streams.converse(socket, stdin)
        except TimeoutError as error:
            raise ApiUnreachable(f"{command[0]} in {namespace}/{pod} took over {timeout:.0f} s") from error

    def _decode(self, resource: Resource[T], body: bytes) -> T:
        try:
            return msgspec.json.decode(body, type=resource.type)
        except msgspec.MsgspecError as error:
            raise ApiUnreachable(
                f"{self.config.server} sent a {resource.kind} that is none: {error}"
            ) from error


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    query = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in query.items() if value}


def _with_subresource(path: str, subresource: str | None) -> str:
    return f"{path}/{subresource}" if subresource else path
