"""What an election wants of the API, done: the Leases of announcements."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Literal

from tulle.errors import ApiError, ApiUnreachable
from tulle.external_to_service.announce.actions import (
    Action,
    End,
    Fence,
    Give,
    Remove,
    Renew,
    Start,
    Take,
)
from tulle.external_to_service.announce.leases import (
    LABEL,
    NAMESPACE,
    SECONDS,
    Record,
    change,
    creation,
    ending,
    read,
    renewal,
)
from tulle.kube.client import Client
from tulle.kube.resources import LEASE, LEASES

_PATIENCE = 0.5
"""Seconds: an API that is silent for so long is asked again, by another connection."""


class Refused(Exception):
    """The API has another state than the action is for."""


class Leases:
    """``node_uid``: that of this node's Node object; its beat goes with it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.node_uid = ""

    async def do(self, action: Action) -> Record | None:
        """The Lease as it is then; None where it was deleted. Raises ``Refused``, ``ApiError``,
        ``ApiUnreachable``; with the last two it may have been done, or will be.
        """
        patience = SECONDS if isinstance(action, Renew) else _PATIENCE
        try:
            async with asyncio.timeout(patience):
                return await self._do(action)
        except TimeoutError as error:
            raise ApiUnreachable(f"{self._client.config.server}: no answer within {patience} s") from error
        except ApiError as error:
            if error.code in (404, 409, 422):
                raise Refused(str(error)) from error
            raise

    async def _do(self, action: Action) -> Record | None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        match action:
            case Renew():
                return await self._patch(action.name, renewal(action.session, now))
            case End():
                return await self._patch(action.name, ending(action.session))
            case Start() | Take() if action.version is None:
                uid = self.node_uid if isinstance(action, Start) else ""
                made = creation(action.name, action.session, action.transitions, now, uid)
                return _read(await self._client.create(LEASES, made, NAMESPACE))
            case Start() | Take():
                wanted = change(action.version or 0, action.session, action.transitions, now)
                return await self._patch(action.name, wanted)
            case Fence() | Give():
                return await self._patch(action.name, change(action.version, "", action.transitions, now))
            case Remove():
                await self._client.delete(LEASES, action.name, NAMESPACE)
                return None

    async def _patch(self, name: str, patch: Any) -> Record:
        kind: Literal["json", "merge"] = "json" if isinstance(patch, list) else "merge"
        return _read(await self._client.patch(LEASES, name, patch, NAMESPACE, kind=kind))

    async def list(self) -> tuple[list[Record], int]:
        """All of them, and the version that they are of. Raises ``ApiError``, ``ApiUnreachable``."""
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await self._client.list(LEASE, NAMESPACE, LABEL)
        except TimeoutError as error:
            raise ApiUnreachable(f"{self._client.config.server}: no list within {_PATIENCE} s") from error
        records = [record for lease in found.items if (record := read(lease))]
        return records, int(found.resource_version)


def _read(raw: dict[str, Any]) -> Record:
    metadata, spec = raw["metadata"], raw.get("spec") or {}
    return Record(
        metadata["name"],
        int(metadata["resourceVersion"]),
        spec.get("holderIdentity") or "",
        spec.get("leaseTransitions") or 0,
    )
