"""Services, Pods and what the controllers make of them, on an API server without kubelets.

What a Pod's status says is what the test has written there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest
from apiserver_process import ApiServer

from tulle.cli.apiserver import apiserver
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import (
    ENDPOINTS,
    ENDPOINTSLICES,
    PODS,
    SERVICES,
    Resource,
)

Object = dict[str, Any]

PATIENCE = 60.0
ZONES = {"node-a": "east", "node-b": "west"}
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
MIRRORER = "endpointslicemirroring-controller.k8s.io"

HAS_CIDRS = "service_cidr" in signature(apiserver).parameters
FLAGS = ["--service-cidr=10.96.0.0/16,fd00:10:96::/112"] if HAS_CIDRS else []


class World:
    """The API server, and what its watches show of all slices and Endpoints."""

    def __init__(self, server: ApiServer, client: Client) -> None:
        self.server, self.client = server, client
        self.slices, self.endpoints = Informer(client, ENDPOINTSLICES), Informer(client, ENDPOINTS)
        self._news = asyncio.Event()
        for informer in (self.slices, self.endpoints):
            informer.subscribe(lambda _: self._news.set())

    async def until(self, wanted: Callable[[], object]) -> None:
        """Looks after every change; what is never so is shown beside what is."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not wanted():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            there = [*self.slices.objects.values(), *self.endpoints.objects.values()]
            pytest.fail(f"it never became what was wanted; there are {json.dumps(there, indent=1)}")


class Space:
    """A namespace of one test. Pods have the label ``app=web``, which the Service ``web`` selects."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.client, self.name = world, world.client, name

    async def service(self, name: str = "web", **spec: Any) -> Object:
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        whole = {"selector": {"app": "web"}, "ports": ports, **spec}
        head = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"team": "a"}}}
        return await self.client.create(SERVICES, {**head, "spec": whole}, self.name)

    async def change(self, resource: Resource[Object], name: str, **patch: Any) -> Object:
        return await self.client.patch(resource, name, patch, self.name)

    async def pod(self, name: str, *ips: str, node: str = "node-a", app: str = "web", **spec: Any) -> None:
        """Runs and is ready at once."""
        whole = {"nodeName": node, "containers": [{"name": "c", "image": "none"}], **spec}
        head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}}}
        await self.client.create(PODS, {**head, "spec": whole}, self.name)
        addresses = {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
        await self._status(name, phase="Running", conditions=[ready(True)], **addresses)

    async def set_ready(self, name: str, value: bool) -> None:
        await self._status(name, conditions=[ready(value)])

    async def _status(self, name: str, **status: Any) -> None:
        await self.client.patch(PODS, name, {"status": status}, self.name, "status")

    async def delete(self, resource: Resource[Object], name: str, grace: int | None = None) -> None:
        await self.client.delete(resource, name, self.name, grace_period_seconds=grace)

    async def custom(self, *ips: str, name: str = "web", port: int = 80) -> Object:
        """Endpoints as somebody makes them."""
        subset = {"addresses": [{"ip": ip} for ip in ips], "ports": [{"port": port}]}
        head = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name}}
        return await self.client.create(ENDPOINTS, {**head, "subsets": [subset]}, self.name)

    def slices(self, service: str = "web", manager: str = CONTROLLER) -> list[Object]:
        """In order of families, then of their sizes."""
        wanted = {"kubernetes.io/service-name": service, MANAGED_BY: manager}.items()
        there = [each for key, each in self.world.slices.objects.items() if key[0] == self.name]
        found = [each for each in there if wanted <= each["metadata"]["labels"].items()]
        return sorted(found, key=lambda each: (each["addressType"], -len(each["endpoints"])))

    def conditions(self, service: str = "web", manager: str = CONTROLLER) -> dict[str, str]:
        """By address, the conditions that are true."""
        return {
            endpoint["addresses"][0]: " ".join(
                key for key in ("ready", "serving", "terminating") if endpoint["conditions"].get(key)
            )
            for each in self.slices(service, manager)
            for endpoint in each["endpoints"]
        }

    def addresses(self, service: str = "web") -> tuple[list[str], list[str]] | None:
        """Of the Endpoints: those that are ready, and those that are not; None without the object."""
        found = self.world.endpoints.objects.get((self.name, service))
        if found is None:
            return None
        lists: tuple[list[str], list[str]] = ([], [])
        for subset in found.get("subsets") or []:
            for key, into in zip(("addresses", "notReadyAddresses"), lists, strict=True):
                into += [each["ip"] for each in subset.get(key, [])]
        return lists

    async def until_slices_say(self, conditions: dict[str, str], **which: str) -> None:
        """Also that there is a slice: one without endpoints is not the same as none."""
        await self.world.until(lambda: self.slices(**which) and self.conditions(**which) == conditions)

    async def until_endpoints_say(self, *lists: list[str]) -> None:
        await self.world.until(lambda: self.addresses() == (lists or None))

    async def until_no_slices(self, **which: str) -> None:
        await self.world.until(lambda: not self.slices(**which))


def ready(value: bool) -> Object:
    times = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {"type": "Ready", "status": "True" if value else "False", **times}


def is_later(there: Object, before: Object) -> bool:
    return int(there["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])


def versions(slices: list[Object]) -> dict[str, str]:
    return {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in slices}
