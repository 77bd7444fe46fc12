"""Events about Pods: sent in the background, counted instead of repeated."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Literal

from tulle.errors import ApiError, ApiUnreachable
from tulle.kube.client import Client
from tulle.kube.resources import EVENTS
from tulle.lab.kubelet.objects import Pod
from tulle.lab.kubelet.records import now

log = logging.getLogger(__name__)

_MOST_WAITING = 1000
_MOST_KNOWN = 4000


@dataclass(frozen=True, slots=True)
class _Event:
    pod: Pod
    kind: Literal["Normal", "Warning"]
    reason: str
    message: str
    container: str


class Recorder:
    """``run`` sends what ``emit`` took. Of more than 1000 that wait, the newest are lost."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node
        self._queue: asyncio.Queue[_Event] = asyncio.Queue(_MOST_WAITING)
        self._sent: dict[tuple[str, str, str], tuple[str, int]] = {}

    def normal(self, pod: Pod, reason: str, message: str, container: str = "") -> None:
        self._emit(_Event(pod, "Normal", reason, message, container))

    def warning(self, pod: Pod, reason: str, message: str, container: str = "") -> None:
        self._emit(_Event(pod, "Warning", reason, message, container))

    def _emit(self, event: _Event) -> None:
        log.info("%s: %s: %s", event.pod.title, event.reason, event.message)
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("%s: event lost: %s", event.pod.title, event.message)

    async def run(self) -> None:
        while True:
            event = await self._queue.get()
            try:
                await self._send(event)
            except (ApiError, ApiUnreachable) as error:
                log.warning("%s: event %s not sent: %s", event.pod.title, event.reason, error)

    async def _send(self, event: _Event) -> None:
        meta = event.pod.metadata
        key = (meta.uid, event.reason, event.container + event.message)
        name, count = self._sent.get(key, ("", 0))
        if name:
            patch = {"count": count + 1, "lastTimestamp": now()}
            await self._client.patch(EVENTS, name, patch, meta.namespace)
        else:
            name = f"{meta.name}.{token_hex(8)}"
            await self._client.create(EVENTS, self._body(event, name), meta.namespace)
        self._sent[key] = (name, count + 1)
        if len(self._sent) > _MOST_KNOWN:
            del self._sent[next(iter(self._sent))]

    def _body(self, event: _Event, name: str) -> dict[str, Any]:
        meta, time = event.pod.metadata, now()
        involved = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
        }
        if event.container:
            involved["fieldPath"] = f"spec.containers{{{event.container}}}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": meta.namespace},
            "involvedObject": involved,
            "type": event.kind,
            "reason": event.reason,
            "message": event.message,
            "count": 1,
            "firstTimestamp": time,
            "lastTimestamp": time,
            "source": {"component": "kubelet", "host": self._node},
            "reportingComponent": "kubelet",
            "reportingInstance": self._node,
        }
