"""The API's side of `tulle status` on Services: what there should be on this node."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tulle.agent.host_ports.plan import reserved
from tulle.agent.node import ZONE, primary_of
from tulle.agent.services.services import networks
from tulle.agent.settings import Settings
from tulle.errors import ApiUnreachable, ConfigError, NotFound
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.config import resolve
from tulle.kube.resources import ENDPOINT_SLICE, NODE, SERVICE, SERVICE_CIDR, Key
from tulle.model.address import Network
from tulle.model.services import EndpointSlice, Service
from tulle.pod_to_pod.store import recorded
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.plan import Frontend, ServicePlan
from tulle.pod_to_service.tracker import Tracker, owner_of

PATIENCE = 2.0
"""Seconds for the first answer: whoever looks at a node with a broken API does not want to wait."""
_LISTS = 60.0  # seconds for all lists, once it has answered


@dataclass(frozen=True, slots=True)
class ApiSide:
    """``plans`` of all Services, also of those that need nothing in the kernel. ``cidrs``: None where the API
    has no ServiceCIDRs (before Kubernetes 1.33).
    """

    here: Location
    services: Mapping[Key, Service]
    slices: Mapping[Key, tuple[EndpointSlice, ...]]
    plans: Mapping[Key, ServicePlan]
    cidrs: frozenset[Network] | None


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Client]:
    """A client as the agent's own. Raises ``ConfigError``."""
    path = Path(settings.kubeconfig) if settings.kubeconfig else None
    async with Client(resolve(path)) as client:
        yield client


async def ask(client: Client, settings: Settings) -> ApiSide:
    """Lists what matters, and plans it as the agent does.

    Should two Services have one address, the agent knows who came first, and we do not: the order of the
    API's list counts here. Raises ``ApiError``, ``ApiUnreachable``, and ``ConfigError`` when this is no Node.
    """
    here = await _location(client, settings.node_name)
    try:
        async with asyncio.timeout(_LISTS):
            services = (await client.list(SERVICE)).items
            slices = (await client.list(ENDPOINT_SLICE)).items
            cidrs = await _cidrs(client)
    except TimeoutError as error:
        raise ApiUnreachable(f"{client.config.server} took over {_LISTS:.0f} s for its lists") from error
    pods = reserved(each for each in recorded(Path(settings.state_dir)) if not each.deleted)
    return plan_all(here, services, slices, cidrs, pods)


def plan_all(
    here: Location,
    services: Iterable[Service],
    slices: Iterable[EndpointSlice],
    cidrs: frozenset[Network] | None,
    host_ports: Mapping[Frontend, str],
) -> ApiSide:
    """``host_ports``: those with an address of their own, and whose each is in words. Pure."""
    tracker = Tracker(here)
    tracker.reserve(host_ports)
    by_owner: defaultdict[Key, list[EndpointSlice]] = defaultdict(list)
    for each in slices:
        tracker.slice_changed(Change("added", (each.metadata.namespace, each.metadata.name), None, each))
        if owner := owner_of(each):
            by_owner[owner].append(each)
    known = {(service.metadata.namespace, service.metadata.name): service for service in services}
    for key, service in known.items():
        tracker.service_changed(Change("added", key, None, service))
    return ApiSide(
        here=here,
        services=known,
        slices={key: tuple(found) for key, found in by_owner.items()},
        plans={key: tracker.plan(key) for key in sorted(known)},
        cidrs=cidrs,
    )


async def _location(client: Client, node: str) -> Location:
    try:
        async with asyncio.timeout(PATIENCE):
            found = await client.get(NODE, node)
    except TimeoutError as error:
        raise ApiUnreachable(f"{client.config.server} did not answer within {PATIENCE:.0f} s") from error
    except NotFound as error:
        raise ConfigError(f"nodeName: there is no Node {node} in the API; its name there is right") from error
    return Location(node, found.metadata.labels.get(ZONE, ""), primary_of(found))


async def _cidrs(client: Client) -> frozenset[Network] | None:
    try:
        return frozenset(networks((await client.list(SERVICE_CIDR)).items))
    except NotFound:
        return None
