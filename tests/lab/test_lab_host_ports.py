"""Host ports in a whole cluster (N-10): from the API to the kernel, as a user writes and reaches them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from livelab import Cluster, Pods

from tulle.kube.client import Client
from tulle.kube.resources import CONFIGMAPS

ENDS = Path(__file__).parents[1] / "ends.py"
IN_POD = ("python3", "/ends/ends.py")
MOUNT = {
    "volumeMounts": [{"name": "ends", "mountPath": "/ends"}],
    "volumes": [{"name": "ends", "configMap": {"name": "ends"}}],
}
HERE = "node-1"
PORTS = [
    {"containerPort": 8080, "hostPort": 18080},
    {"containerPort": 8080, "hostPort": 18081, "hostIP": "127.0.0.1"},
]


@pytest.fixture
async def ends(pods: Pods, client: Client) -> Pods:
    """A namespace whose Pods can run ``ends.py``."""
    body = {"metadata": {"name": "ends"}, "data": {"ends.py": ENDS.read_text()}}
    await client.create(CONFIGMAPS, body, pods.namespace)
    return pods


async def serve(pods: Pods, name: str, ports: list[dict[str, Any]]) -> dict[str, Any]:
    command = (*IN_POD, "serve", name, "tcp", "8080")
    ready = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    await pods.create(name, *command, nodeName=HERE, ports=ports, readinessProbe=ready, **MOUNT)
    return await pods.ready(name)


async def test_a_host_port_is_reached_from_everywhere(lab: Cluster, ends: Pods) -> None:
    """From the world with the client's own address; from a host-network Pod by loopback (Conformance)."""
    await serve(ends, "web", PORTS)
    await ends.create("host", "sleep", "infinity", nodeName=HERE, hostNetwork=True, **MOUNT)
    await ends.create("far", "sleep", "infinity", nodeName="node-2", **MOUNT)
    for name in ("host", "far"):
        await ends.ready(name)
    topology = lab.lab.topology
    node = next(each for each in topology.nodes if each.name == HERE)

    async def asked(place: str, address: str, port: int) -> dict[str, Any]:
        words = ("ask", "tcp", address, str(port), "1", "64")
        if place == "world":
            done = lab.tulle("world", "--", sys.executable, str(ENDS), *words).stdout
        else:
            done = await ends.run(place, *IN_POD, *words)
        answer: dict[str, Any] = json.loads(done)
        return answer

    for loopback in ("127.0.0.1", "::1"):
        assert (await asked("host", loopback, 18080))["name"] == "web"
    assert (await asked("host", "127.0.0.1", 18081))["name"] == "web"
    for own, world in zip(node.addresses, topology.world.addresses, strict=True):
        for place in ("host", "far"):
            assert (await asked(place, str(own.ip), 18080))["name"] == "web"
        answer = await asked("world", str(own.ip), 18080)
        assert (answer["name"], answer["seen"]) == ("web", str(world.ip))
        assert "error" in await asked("world", str(own.ip), 18081)


async def test_a_conflict_is_told_by_name(ends: Pods) -> None:
    """No scheduler has kept the second Pod away; it runs when the first one is gone."""
    await serve(ends, "first", PORTS)
    clash = [{"containerPort": 8080, "hostPort": 18081, "hostIP": "0.0.0.0"}]
    await ends.create("second", "sleep", "infinity", nodeName=HERE, ports=clash, **MOUNT)
    message = await ends.event("second", "FailedCreatePodSandBox")
    assert f"{ends.namespace}/first" in message and "0.0.0.0:18081/TCP" in message
    await ends.delete("first")
    await ends.ready("second")


async def test_an_address_that_the_node_lacks_is_told_of(ends: Pods) -> None:
    """In an Event on the Pod, which runs all the same."""
    ports = [{"containerPort": 8080, "hostPort": 18082, "hostIP": "192.0.2.1"}]
    await serve(ends, "web", ports)
    message = await ends.event("web", "InvalidField")
    assert "192.0.2.1 is no address of this node" in message and "18082" in message
