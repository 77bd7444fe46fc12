"""Events: what a controller did or could not do, told to people."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import UTC, datetime

from tulle.apiserver.controllers.objects import Object, stamp
from tulle.errors import ApiError, ApiUnreachable
from tulle.kube.client import Client
from tulle.kube.resources import EVENTS

log = logging.getLogger(__name__)


class Recorder:
    """Writes Events in its own time, so that nobody waits for them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: asyncio.Queue[Object] = asyncio.Queue()

    def record(self, component: str, about: Object, kind: str, reason: str, message: str) -> None:
        """``component`` says ``message`` about an object; ``kind`` is Normal or Warning."""
        self._waiting.put_nowait(event_about(about, component, kind, reason, message, datetime.now(UTC)))

    async def run(self) -> None:
        """Never returns. An Event that the API does not take is lost: its object is mostly gone, too."""
        while True:
            event = await self._waiting.get()
            try:
                await self._client.create(EVENTS, event, event["metadata"]["namespace"])
            except (ApiError, ApiUnreachable) as error:
                log.debug("event %s is lost: %s", event["reason"], error)


def event_about(about: Object, component: str, kind: str, reason: str, message: str, now: datetime) -> Object:
    """What concerns the whole cluster is told in the namespace ``default``, as in Kubernetes."""
    metadata = about["metadata"]
    namespace = metadata.get("namespace") or "default"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": metadata.get("namespace", ""),
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "reportingComponent": component,
        "count": 1,
        "firstTimestamp": stamp(now),
        "lastTimestamp": stamp(now),
    }
