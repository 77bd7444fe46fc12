"""Clients outside while things break: agents are killed, and a node is cut off. In a lab of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from secrets import token_hex

import pytest
import pytest_asyncio
from doors import HERE, THERE, Doors, cut_off, node_port
from livelab import NODES, Cluster, Pods, cluster
from loads import ask, load, on_host, who

from tulle.kube.resources import NAMESPACES, PODS


@pytest.fixture(scope="module")
def broken() -> Iterator[Cluster]:
    with cluster(nodes=NODES) as own:
        yield own


@pytest_asyncio.fixture
async def doors(broken: Cluster) -> AsyncIterator[Doors]:
    async with broken.lab.client() as client:
        namespace = f"t-{token_hex(4)}"
        await client.create(NAMESPACES, {"metadata": {"name": namespace}})
        made = Doors(broken, Pods(client, namespace), client)
        await made.set_up(clients=())
        yield made


async def test_ten_thousand_connections_while_agents_are_killed(broken: Cluster, doors: Doors) -> None:
    """S-73: no packet passes an agent, and a new one takes nothing away."""
    port = node_port(await doors.service("web"))
    ends = [doors.at[HERE]["IPv4"], doors.at[THERE]["IPv6"]]
    for end in ends:
        await doors.until("world", "tcp", end, port, {"L", "R"})
    lines = [on_host(broken, "world", "load", end, str(port), "5000") for end in ends]
    with load(broken, lines[0]) as first, load(broken, lines[1]) as second:
        for _ in range(2):
            kill_agents(broken)
            broken.tulle("up", f"--nodes={NODES}")
    for [result] in (first, second):
        assert result["failures"] == []
        assert sum(result["answered"].values()) >= 5000
        assert set(result["answered"]) == {"L", "R"}


def kill_agents(broken: Cluster) -> None:
    for node in (HERE, THERE):
        os.kill(broken.process(node, "agent").pid, signal.SIGKILL)


async def test_services_go_on_when_a_node_is_cut_off(broken: Cluster, doors: Doors) -> None:
    """And take it back. Of a node that is silent, Kubernetes says that its Pods are not ready."""
    service = await doors.service("web")
    address, port = doors.at[HERE]["IPv4"], node_port(service)
    await doors.until("world", "tcp", address, port, {"L", "R"})

    async def say_ready(status: str) -> None:
        patch = {"status": {"conditions": [{"type": "Ready", "status": status}]}}
        await doors.client.patch(
            PODS, "server-r", patch, doors.pods.namespace, subresource="status", kind="strategic"
        )

    with cut_off(broken, THERE):
        await say_ready("False")
        await doors.until("world", "tcp", address, port, {"L"})
        assert set(who(await ask(broken, "tcp", address, port, 100))) == {"L"}
    await say_ready("True")
    await doors.until("world", "tcp", address, port, {"L", "R"})
