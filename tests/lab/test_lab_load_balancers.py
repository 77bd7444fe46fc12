"""`type: LoadBalancer` works out of the box in a lab (S-75)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

import pytest
import pytest_asyncio
from livelab import NODES, PATIENCE, Cluster, tulle_lab

from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import SERVICES
from tulle.lab import processes
from tulle.lab.starter import CONTROLLER
from tulle.lab.underlay import UNDERLAY

Object = dict[str, Any]


class Balancers:
    """Services of one test."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.names: list[str] = []

    async def create(self) -> str:
        name = f"lb-{token_hex(4)}"
        spec = {"type": "LoadBalancer", "ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
        await self._client.create(SERVICES, service, "default")
        self.names.append(name)
        return name

    async def ips(self, name: str) -> list[str]:
        """Its addresses, once it has some."""
        found: asyncio.Queue[Object | None] = asyncio.Queue()
        services = Informer(self._client, SERVICES, field_selector=f"metadata.name={name}")
        services.subscribe(lambda change: found.put_nowait(change.new))
        following = asyncio.create_task(services.run())
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    status = ((await found.get()) or {}).get("status", {})
                    if ingress := status.get("loadBalancer", {}).get("ingress"):
                        return [point["ip"] for point in ingress]
        finally:
            following.cancel()

    async def close(self) -> None:
        for name in self.names:
            await self._client.delete(SERVICES, name, "default")


@pytest_asyncio.fixture
async def balancers(client: Client) -> AsyncIterator[Balancers]:
    made = Balancers(client)
    yield made
    await made.close()


async def test_a_load_balancer_gets_an_address_of_each_family(lab: Cluster, balancers: Balancers) -> None:
    ips = await balancers.ips(await balancers.create())
    assert [ip.rpartition("." if "." in ip else ":")[0] for ip in ips] == ["172.30.1", "fd00:172:30:1:"]
    taken = {str(address.ip) for host in lab.lab.topology.hosts for address in host.addresses}
    assert not taken & set(ips)
    pool = json.loads(lab.kubectl("get", "lbp", "lab", "-o", "json").stdout)
    assert [pool["status"][family]["total"] for family in ("ipv4", "ipv6")] == [50, 50]


async def test_a_killed_controller_is_started_again(lab: Cluster, balancers: Balancers) -> None:
    before = await balancers.create()
    ips = await balancers.ips(before)
    controller = lab.process(UNDERLAY, CONTROLLER)
    os.kill(controller.pid, signal.SIGKILL)
    await processes.watch(controller.pid)
    assert lab.tulle("status", check=False).returncode == 1
    await asyncio.to_thread(tulle_lab, "up", f"--name={lab.name}", f"--nodes={NODES}")
    assert lab.process(UNDERLAY, CONTROLLER).alive()
    later = await balancers.ips(await balancers.create())
    assert not set(later) & set(ips) and await balancers.ips(before) == ips


@pytest.mark.parametrize("node", ["node-1", "node-2"])
async def test_status_of_a_node_shows_pools(lab: Cluster, node: str) -> None:
    lab.kubectl("wait", "--for=condition=Ready", "lbp/lab", "--timeout=90s")
    said = lab.tulle("node", node, "--", "tulle", "status").stdout
    assert "172.30.1.200-172.30.1.249" in said and "all others" in said
    as_json = json.loads(lab.tulle("node", node, "--", "tulle", "status", "-o", "json").stdout)
    [pool] = as_json["pools"]["pools"]
    assert (pool["name"], pool["ready"], pool["default"]) == ("lab", True, True)
