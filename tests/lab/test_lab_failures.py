"""Clients while things break: agents are killed, a node is cut off, a port is taken. In a lab of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from secrets import token_hex

import pytest
import pytest_asyncio
from balancer import taken, until
from doors import HERE, MODES, THERE, Doors, cut_off, node_port
from livelab import NODES, Cluster, Pods, cluster
from loads import ask, in_pod, load, on_host, who
from test_services import Scene
from tests.asking import ask as ask_page
from tests.asking import is_closed

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


async def test_nothing_fails_while_agents_and_dns_are_killed(broken: Cluster) -> None:
    """S-73, inside: packets pass neither, and names wait for the next worker."""
    async with broken.lab.client() as client:
        await client.create(NAMESPACES, {"metadata": {"name": "steady"}})
        scene = Scene(Pods(client, "steady"), client)
        await scene.set_up()
        address = (await scene.service("steady"))["IPv4"]
        for mode in MODES:
            await scene.until(mode, address, {"L", "R"})
        with (
            load(broken, in_pod(scene.pods, "client-socket", "load", "steady", "80")) as by_name,
            load(broken, in_pod(scene.pods, "client-packet", "load", address, "80")) as by_address,
        ):
            kill_agents(broken)
            kill_workers(broken)
            broken.tulle("up", f"--nodes={NODES}")
            await scene.until("packet", address, {"L", "R"})
        for [result] in (by_name, by_address):
            assert result["failures"] == []
            assert set(result["answered"]) == {"L", "R"}


def kill_workers(broken: Cluster) -> None:
    """Those who answer names are the children of the process that holds their sockets."""
    for node in (HERE, THERE):
        dns = broken.process(node, "dns")
        children = Path(f"/proc/{dns.pid}/task/{dns.pid}/children").read_text().split()
        assert children
        for pid in map(int, children):
            os.kill(pid, signal.SIGKILL)


async def test_a_port_that_is_taken_is_told_on_the_node(broken: Cluster) -> None:
    """S-63, beside a kube-proxy."""
    place, address = broken.paths.netns(HERE), str(broken.lab.topology.nodes[0].addresses[0].ip)
    os.kill(broken.process(HERE, "agent").pid, signal.SIGKILL)
    await until(lambda: is_closed(place, address, 10256))
    with taken(place, 10256):
        broken.tulle("up", f"--nodes={NODES}")
        async with broken.lab.client() as client:
            message = await Pods(client, "default").event(HERE, "NetworkMisconfigured")
    assert message.startswith("healthzBindAddress: cannot listen at 0.0.0.0:10256: Address already in use")
    await until(lambda: not is_closed(place, address, 10256))
    assert ask_page(place, address, 10256, "/healthz").json["nodeEligible"] is True
