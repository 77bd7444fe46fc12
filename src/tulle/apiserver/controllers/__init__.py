"""The controllers that keep Pods, nodes and namespaces: small ones, all in one task group.

Each has a pure half that decides, and a thin one that listens to informers and writes.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from tulle.apiserver.controllers.daemonset import DaemonSets
from tulle.apiserver.controllers.deployment import Deployments
from tulle.apiserver.controllers.endpoints import EndpointsObjects
from tulle.apiserver.controllers.endpointslice import EndpointSlices
from tulle.apiserver.controllers.garbage import GarbageCollector
from tulle.apiserver.controllers.inventory import Inventory
from tulle.apiserver.controllers.members import Members
from tulle.apiserver.controllers.mirroring import Mirroring
from tulle.apiserver.controllers.namespaces import Namespaces
from tulle.apiserver.controllers.nodes import LostPods, Nodes
from tulle.apiserver.controllers.replicaset import ReplicaSets
from tulle.apiserver.controllers.scheduler import Scheduler
from tulle.apiserver.controllers.slice_store import SliceStore
from tulle.apiserver.controllers.words import Recorder
from tulle.apiserver.controllers.work import Mirror
from tulle.kube import resources
from tulle.kube.client import Client
from tulle.kube.informer import Informer


class Runner(Protocol):
    """Works for ever, or until it is cancelled."""

    async def run(self) -> None: ...


async def run(client: Client, *, ca_pem: str) -> None:
    """Runs all controllers for ever; ``ca_pem`` is the cluster's CA certificate, for every namespace to have.

    Ends only by cancellation, or by an error that means that a controller is broken.
    """
    kinds = (
        resources.PODS,
        resources.NODES,
        resources.NAMESPACES,
        resources.DEPLOYMENTS,
        resources.REPLICASETS,
        resources.DAEMONSETS,
        resources.SERVICES,
        resources.ENDPOINTS,
        resources.ENDPOINTSLICES,
    )
    mirrors = {kind.plural: Mirror(Informer(client, kind)) for kind in kinds}
    pods, nodes, namespaces, deployments, replicasets, daemonsets, *of_services = mirrors.values()
    services, endpoints, slices = of_services
    members, store = Members(services, pods, nodes), SliceStore(client, slices)
    inventory, recorder = Inventory(client), Recorder(client)
    in_namespaces, of_nodes = Namespaces(client, namespaces, inventory, ca_pem), Nodes(client, nodes)
    runners: dict[str, Runner] = {
        "events": recorder,
        "inventory": inventory,
        "garbage": GarbageCollector(client, inventory),
        "namespaces": in_namespaces,
        "nodes": of_nodes,
        "lost-pods": LostPods(client, pods, nodes),
        "scheduler": Scheduler(client, pods, nodes, recorder),
        "deployments": Deployments(client, deployments, replicasets, pods, recorder),
        "replicasets": ReplicaSets(client, replicasets, pods),
        "daemonsets": DaemonSets(client, daemonsets, pods, nodes),
        "endpointslices": EndpointSlices(members, store),
        "endpoints": EndpointsObjects(client, members, endpoints),
        "mirroring": Mirroring(services, endpoints, store, recorder),
        "leases": of_nodes.leases,
        **{f"informer-{plural}": mirror.informer for plural, mirror in mirrors.items()},
        **{f"furniture-{kind.plural}": informer for kind, informer in in_namespaces.informers.items()},
    }
    async with asyncio.TaskGroup() as group:
        for name, runner in runners.items():
            group.create_task(runner.run(), name=f"controller-{name}")
