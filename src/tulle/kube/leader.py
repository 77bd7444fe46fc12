"""Leader election: of several processes one acts, and it shows that it lives by renewing a Lease.

As Kubernetes' own components do it: a Lease counts as lost when it has not changed for as long as it says, by
the clock of whoever looks, so that clocks need not agree. Writes carry the resourceVersion that was read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tulle.errors import ApiError, ApiUnreachable, NotFound
from tulle.kube.client import Client
from tulle.kube.resources import LEASES

log = logging.getLogger(__name__)

LEASE_SECONDS = 10
"""How long others wait for a leader that is silent."""
SURE_SECONDS = 7.0
"""How long after its last renewal a leader still acts: well before others may."""
RENEW_SECONDS = 2.0
"""Between two renewals, and between two looks of who waits."""


def boot_seconds() -> float:
    """Since the machine was started, with the time that it was asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Observation:
    """Pure: since when the Lease has looked as it does."""

    def __init__(self) -> None:
        self._seen: object = None
        self._since = 0.0

    def is_free(self, spec: dict[str, Any], identity: str, now: float) -> bool:
        """Whether ``identity`` may take it. ``now`` is in seconds of any steady clock."""
        holder = spec.get("holderIdentity") or ""
        record = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._seen:
            self._seen, self._since = record, now
        return holder in ("", identity) or now - self._since >= spec.get(
            "leaseDurationSeconds", LEASE_SECONDS
        )


class Leader:
    """``identity`` must be unlike that of any other process."""

    def __init__(
        self,
        client: Client,
        name: str,
        namespace: str,
        identity: str,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        self._client = client
        self._name, self._namespace = name, namespace
        self._identity = identity
        self._clock = clock
        self._observation = Observation()
        self._renewed = float("-inf")
        self._failing = False

    @property
    def sure(self) -> bool:
        """Whether nobody else can be the leader now. Asked before each write: this process may have slept."""
        return self._clock() - self._renewed < SURE_SECONDS

    async def acquire(self) -> None:
        """Returns once this process is the leader."""
        while True:
            if await self.attempt():
                return
            await asyncio.sleep(RENEW_SECONDS)

    async def keep(self) -> None:
        """Renews; returns when that has failed for so long that another may be the leader soon."""
        while self.sure:
            await asyncio.sleep(RENEW_SECONDS)
            if not await self.attempt() and not self._failing:
                return

    async def release(self) -> None:
        """Lets the next one begin at once. What cannot be said to the API is left to time."""
        self._renewed = float("-inf")
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
            if lease["spec"].get("holderIdentity") == self._identity:
                await self._replace(lease, lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1})
        except (ApiError, ApiUnreachable) as error:
            log.info("the Lease could not be given back: %s", error)

    async def attempt(self) -> bool:
        """Takes or renews the Lease if it may. Without an answer it is not known whether that was done."""
        began = self._clock()
        try:
            async with asyncio.timeout(SURE_SECONDS - RENEW_SECONDS):
                held = await self._take()
        except (ApiError, ApiUnreachable, TimeoutError) as error:
            log.log(logging.DEBUG if self._failing else logging.WARNING, "Lease %s: %s", self._name, error)
            self._failing = True
            return False
        self._failing = False
        self._renewed = began if held else float("-inf")
        return held

    async def _take(self) -> bool:
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            await self._client.create(LEASES, self._new(), self._namespace)
            return True
        spec = lease.get("spec") or {}
        if not self._observation.is_free(spec, self._identity, self._clock()):
            return False
        await self._replace(lease, spec | self._spec(spec))
        return True

    async def _replace(self, lease: dict[str, Any], spec: dict[str, Any]) -> None:
        await self._client.replace(LEASES, self._name, lease | {"spec": spec}, self._namespace)

    def _new(self) -> dict[str, Any]:
        metadata = {"name": self._name, "namespace": self._namespace}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": self._spec({}),
        }

    def _spec(self, old: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._identity, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
        if old.get("holderIdentity") != self._identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(old.get("leaseTransitions") or 0) + 1}
        return spec
