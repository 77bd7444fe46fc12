"""Tulle's own resources in a lab: their definitions, and a LoadBalancerPool to begin with."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from tulle.errors import Conflict
from tulle.external_to_service.crds import crds
from tulle.kube.client import Client
from tulle.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, LOAD_BALANCER_POOLS
from tulle.lab.spec import Topology

POOL: Final = "lab"


async def apply(client: Client, topology: Topology) -> None:
    """Makes what is missing. The pool is the user's from then on. Raises ``ApiError``, ``ApiUnreachable``."""
    for definition in crds():
        name = definition["metadata"]["name"]
        await client.patch(CUSTOM_RESOURCE_DEFINITIONS, name, definition, kind="apply")
    with suppress(Conflict):
        await client.create(LOAD_BALANCER_POOLS, pool(topology))


def pool(topology: Topology) -> dict[str, Any]:
    """For all Services: a range of each family on the first subnet, where no node is."""
    return {
        "apiVersion": "tulle.dev/v1",
        "kind": "LoadBalancerPool",
        "metadata": {"name": POOL},
        "spec": {"addresses": list(topology.balanced), "default": True},
    }
