"""Events: what operators see when they describe an object."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from tulle.errors import ApiError, ApiUnreachable
from tulle.kube.client import Client
from tulle.kube.resources import EVENTS

log = logging.getLogger(__name__)

_LONGEST = 1024  # of a message, as the API demands


def stamp() -> str:
    """The time now, as objects carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def tell(
    client: Client,
    about: Mapping[str, str],
    reason: str,
    message: str,
    *,
    component: str,
    host: str = "",
    kind: Literal["Normal", "Warning"] = "Warning",
) -> None:
    """Makes an Event on the object ``about``: apiVersion, kind, name, and namespace and uid if it has them.

    When the API does not take it that is logged: nothing ever fails for want of an Event.
    """
    now = stamp()
    namespace = about.get("namespace") or "default"
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{about['name']}.", "namespace": namespace},
        "involvedObject": dict(about),
        "type": kind,
        "reason": reason,
        "message": message[:_LONGEST],
        "source": {"component": component} | ({"host": host} if host else {}),
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    try:
        await client.create(EVENTS, event, namespace)
    except (ApiError, ApiUnreachable) as error:
        log.warning("no Event could be made: %s", error)
