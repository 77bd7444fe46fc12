"""The controller's writes. Each is guarded: by the Lease, and by the resourceVersion of what was read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal, cast

from tulle.errors import ApiError, ApiUnreachable, NotFound
from tulle.external_to_service.pools import conditions
from tulle.external_to_service.pools.claim import Claim
from tulle.external_to_service.pools.conditions import Patch, Told
from tulle.external_to_service.pools.judge import Pool
from tulle.external_to_service.pools.outcome import Outcome
from tulle.kube.client import Client
from tulle.kube.events import stamp, tell
from tulle.kube.leader import Leader
from tulle.kube.resources import BALANCED_SERVICE, LOAD_BALANCER_POOL, Key
from tulle.model.address import Address
from tulle.model.balancing import BalancedService, FullMeta, LoadBalancerPool

log = logging.getLogger(__name__)

_COMPONENT = "tulle-controller"
Kind = Literal["merge", "strategic"]


class Writer:
    """Raises ``ApiError`` and ``ApiUnreachable``; then the object is looked at again."""

    def __init__(self, client: Client, leader: Leader) -> None:
        self._client = client
        self._leader = leader
        self._written: dict[Key, BalancedService] = {}

    def latest(self, key: Key, seen: BalancedService | None) -> BalancedService | None:
        """``seen`` as the watch shows it, or as our own last write left it, when the watch lags behind.

        Resource versions are compared as numbers, which Kubernetes allows since 1.35.
        """
        written = self._written.get(key)
        if seen and written and _is_newer(written.metadata, seen.metadata):
            return written
        self._written.pop(key, None)
        return seen

    async def explain_missing_pools(self) -> None:
        """A warning, where LoadBalancerPools are not known to the API: everything waits for them."""
        try:
            await self._client.list(LOAD_BALANCER_POOL)
        except NotFound:
            log.error(
                "the API has no LoadBalancerPools: apply src/tulle/external_to_service/crds with kubectl; "
                "this goes on once that is done"
            )
        except (ApiError, ApiUnreachable):
            return

    async def publish(self, service: BalancedService, outcome: Outcome) -> None:
        """The finalizer first: nobody may see an address that would not be released in an orderly way."""
        if outcome.addresses and (patch := conditions.with_finalizer(service)):
            service = await self._patch(service, patch)
        told = conditions.service_status(service, outcome, stamp())
        if told.patch:
            await self._patch(service, told.patch, "status")
            await self._tell("v1", "Service", service.metadata, told)

    async def clear(self, service: BalancedService, held: frozenset[str]) -> None:
        """The status first: whatever holds the object up after us, it shows no address that is free."""
        if patch := conditions.cleared_status(service, held):
            service = await self._patch(service, patch, "status")
        if patch := conditions.without_finalizer(service):
            await self._patch(service, patch)

    async def tell_dispute(self, service: BalancedService, address: Address, other: Claim) -> None:
        """An Event on a Service that names an address which another one was given."""
        message = (
            f"spec.externalIPs: {address} is the load balancer's address of Service {other.name}; "
            "name another one, which is in no LoadBalancerPool"
        )
        told = Told(None, "Warning", "ExternalIPTaken", message)
        await self._tell("v1", "Service", service.metadata, told)

    async def tell_pool(self, obj: LoadBalancerPool, pool: Pool, assigned: Mapping[int, int]) -> None:
        """Status of a pool, and an Event when it has come to be unusable."""
        told = conditions.pool_status(obj, pool, assigned, stamp())
        if told.patch and self._leader.sure:
            name = obj.metadata.name
            await self._client.patch(LOAD_BALANCER_POOL, name, told.patch, subresource="status")
            await self._tell("tulle.dev/v1", "LoadBalancerPool", obj.metadata, told)

    async def _patch(
        self, service: BalancedService, patch: Patch, part: str | None = None
    ) -> BalancedService:
        """The Service as it is then. Nothing is written by who may not be the leader any more."""
        if not self._leader.sure:
            raise ApiUnreachable("the Lease may belong to another controller by now")
        meta = service.metadata
        kind: Kind = "strategic" if part else "merge"
        written = await self._client.patch(
            BALANCED_SERVICE, meta.name, patch, meta.namespace, subresource=part, kind=kind
        )
        self._written[meta.key] = written
        return written

    async def _tell(self, version: str, kind: str, meta: FullMeta, told: Told) -> None:
        if not told.kind:
            return
        level = logging.INFO if told.kind == "Normal" else logging.WARNING
        name = "/".join(filter(None, meta.key))
        log.log(level, "%s %s: %s: %s", kind, name, told.reason, told.message)
        about = {"apiVersion": version, "kind": kind, "name": meta.name, "uid": meta.uid}
        if meta.namespace:
            about["namespace"] = meta.namespace
        event_kind = cast(Literal["Normal", "Warning"], told.kind)
        await tell(self._client, about, told.reason, told.message, component=_COMPONENT, kind=event_kind)


def _is_newer(one: FullMeta, other: FullMeta) -> bool:
    """Whether it is the same object, later."""
    return one.uid == other.uid and int(one.resource_version) > int(other.resource_version)
