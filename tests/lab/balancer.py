"""A Service that a load balancer would ask for, and the asking from outside the cluster."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from livelab import PATIENCE, Cluster
from tests.asking import Answer, ask, is_closed

from tulle.kernel import netns
from tulle.kube.client import Client
from tulle.kube.resources import ENDPOINTSLICES, NODES, SERVICES

HERE, THERE = "node-1", "node-2"
FAMILIES = ("IPv4", "IPv6")
READY = {"ready": True, "serving": True, "terminating": False}
LEAVING = {"ready": False, "serving": True, "terminating": True}


class Balancer:
    """A Service ``lb`` of the type LoadBalancer, with endpoints said by hand, and who asks for it."""

    def __init__(self, lab: Cluster, client: Client, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        self.world = lab.paths.netns("world")
        self.nodes = {name: lab.paths.netns(name) for name in (HERE, THERE)}
        self.addresses: dict[tuple[str, str], str] = {}
        self.port = 0

    async def find_nodes(self) -> None:
        for node in (await self.client.list(NODES)).items:
            for each in node["status"]["addresses"]:
                if each["type"] == "InternalIP":
                    family = "IPv6" if ":" in each["address"] else "IPv4"
                    self.addresses[node["metadata"]["name"], family] = each["address"]

    async def create(self, **spec: Any) -> None:
        whole = {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "ipFamilyPolicy": "RequireDualStack",
            "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}],
            **spec,
        }
        made = await self.client.create(SERVICES, {"metadata": {"name": "lb"}, "spec": whole}, self.namespace)
        self.port = made["spec"].get("healthCheckNodePort", 0)

    async def change(self, **spec: Any) -> None:
        made = await self.client.patch(SERVICES, "lb", {"spec": spec}, self.namespace)
        self.port = made["spec"].get("healthCheckNodePort", 0)

    async def endpoints(
        self, *told: tuple[str, str, dict[str, bool]], family: str = "IPv4", **annotations: str
    ) -> None:
        """Each: an address, its node, and its conditions."""
        name = f"lb-{family.lower()}"
        labels = {"kubernetes.io/service-name": "lb"}
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "addressType": family,
            "endpoints": [{"addresses": [a], "nodeName": n, "conditions": c} for a, n, c in told],
            "ports": [{"name": "http", "port": 8080}, {"name": "https", "port": 8443}],
        }
        await self.client.patch(ENDPOINTSLICES, name, body, self.namespace, kind="apply")

    def ask(self, node: str, family: str = "IPv4", path: str = "/", method: str = "GET") -> Answer:
        """From outside the cluster."""
        return ask(self.world, self.addresses[node, family], self.port, path, method)

    def is_closed(self, port: int) -> bool:
        return all(is_closed(self.world, address, port) for address in self.addresses.values())

    async def until_ready(self, node: str, count: int, family: str = "IPv4") -> Answer:
        """Once that many endpoints are told; the status and all that is said must fit then."""
        found: list[Answer] = []

        def told() -> bool:
            if is_closed(self.world, self.addresses[node, family], self.port):
                return False
            found.append(self.ask(node, family))
            return found[-1].json["localEndpoints"] == count

        await until(told)
        answer = found[-1]
        assert answer.status == (200 if count else 503)
        assert answer.headers["X-Load-Balancing-Endpoint-Weight"] == str(count)
        assert answer.json == {
            "service": {"namespace": self.namespace, "name": "lb"},
            "localEndpoints": count,
            "serviceProxyHealthy": True,
        }
        return answer


async def until(wanted: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(wanted):
            pass


@contextmanager
def taken(place: Path, port: int) -> Iterator[None]:
    with netns.entered(place):
        sock = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    with sock:
        yield
