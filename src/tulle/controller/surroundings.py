"""What is in use in the cluster, so that no pool may have it: nodes, Pods, ClusterIPs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

from tulle.errors import ApiError, ApiUnreachable, NotFound
from tulle.external_to_service.pools.judge import Surroundings
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import NODE, SERVICE_CIDR
from tulle.model.address import Address, Network
from tulle.model.objects import Node
from tulle.model.services import ServiceCIDR

log = logging.getLogger(__name__)


class Around:
    """``changed`` is called when ``found()`` has become something else."""

    def __init__(self, client: Client, changed: Callable[[], None]) -> None:
        self._client = client
        self._changed = changed
        self._nodes: Informer[Node] = Informer(client, NODE)
        self._cidrs: Informer[ServiceCIDR] = Informer(client, SERVICE_CIDR)
        self._last = Surroundings({}, {}, {})

    def start(self, group: asyncio.TaskGroup) -> None:
        """Adds the tasks that never return."""
        group.create_task(self._nodes.run(), name="follow the Nodes")
        group.create_task(self._cidrs.run(), name="follow the ServiceCIDRs")

    async def synced(self) -> None:
        """Until all is known; an API without ServiceCIDRs (Kubernetes before 1.33) is not waited for."""
        await self._nodes.synced.wait()
        if await self._has_cidrs():
            await self._cidrs.synced.wait()
        self._last = self.found()
        self._nodes.subscribe(self._look)
        self._cidrs.subscribe(self._look)

    async def _has_cidrs(self) -> bool:
        try:
            await self._client.list(SERVICE_CIDR)
        except NotFound:
            return False
        except (ApiError, ApiUnreachable):
            return True
        return True

    def _look(self, _: Change[Node] | Change[ServiceCIDR]) -> None:
        """Most changes of Nodes are heartbeats."""
        found = self.found()
        if found != self._last:
            self._last = found
            self._changed()

    def found(self) -> Surroundings:
        """As of now. What cannot be read is left out; agents tell of it."""
        nodes = list(self._nodes.objects.values())
        return Surroundings(
            nodes={address: node.metadata.name for node in nodes for address in _addresses(node)},
            pod_cidrs={cidr: node.metadata.name for node in nodes for cidr in _networks(node.spec.pod_cidrs)},
            service_cidrs={
                cidr: each.metadata.name
                for each in self._cidrs.objects.values()
                for cidr in _networks(each.spec.cidrs or ())
            },
        )


def _addresses(node: Node) -> Iterator[Address]:
    for each in node.status.addresses:
        if each.type in ("InternalIP", "ExternalIP"):
            try:
                yield ip_address(each.address)
            except ValueError:
                continue


def _networks(texts: tuple[str, ...]) -> Iterator[Network]:
    for text in texts:
        try:
            yield ip_network(text, strict=False)
        except ValueError:
            continue
