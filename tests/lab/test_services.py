"""Services in a whole cluster, by real objects: from the API to the kernel, and under load."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest_asyncio
from livelab import NODES, PATIENCE, Cluster, Pods, cluster
from loads import ENDS, MOUNT, in_pod, load, offer_ends, speaking, until
from tests import ends

from tulle.kube.client import Client
from tulle.kube.resources import DEPLOYMENTS, ENDPOINTSLICES, NAMESPACES, PODS, SERVICES

HERE, THERE = "node-1", "node-2"
MODES = ("socket", "packet")
FAMILIES = ("IPv4", "IPv6")


class Scene:
    """Endpoints L on node-1 and R on node-2, and clients on node-1: a Pod in each mode, and the node."""

    def __init__(self, pods: Pods, client: Client) -> None:
        self.pods = pods
        self._client = client

    async def set_up(self) -> None:
        await offer_ends(self._client, self.pods.namespace)
        for name, node in (("L", HERE), ("R", THERE)):
            await self._pod(
                f"server-{name.lower()}", node, ("serve", name, "tcp", "8080"), {"role": "server"}
            )
        for mode in MODES:
            choice = {"tulle.dev/socket-services": "true" if mode == "socket" else "false"}
            await self._pod(f"client-{mode}", HERE, (), {}, annotations=choice)
        await self._pod("client-node", HERE, (), {}, hostNetwork=True)
        for name in ("server-l", "server-r", "client-socket", "client-packet", "client-node"):
            await self.pods.ready(name)

    async def _pod(
        self, name: str, node: str, ends: Sequence[str], labels: dict[str, str], **more: Any
    ) -> None:
        command = (*ENDS, *ends) if ends else ("sleep", "infinity")
        if ends:
            more["readinessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
        await self.pods.create(name, *command, labels=labels, nodeName=node, **MOUNT, **more)

    async def service(self, name: str, **spec: Any) -> dict[str, str]:
        """Its addresses by family; returns once every client sees it as every other one."""
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {
                "ipFamilyPolicy": "PreferDualStack",
                "selector": {"role": "server"},
                "ports": [{"port": 80, "targetPort": 8080}],
                **spec,
            },
        }
        made = await self._client.create(SERVICES, body, self.pods.namespace)
        found = made["spec"]["clusterIPs"]
        return {"IPv6" if ":" in address else "IPv4": address for address in found}

    async def asked(
        self, place: str, address: str, times: int = 24, patience: float = ends.PATIENCE
    ) -> list[str]:
        """Who answered, or why nobody did."""
        words = (*ENDS, "ask", "tcp", address, "80", str(times), "64", str(patience))
        lines = (await self.pods.run(f"client-{place}", *words)).splitlines()
        return [(a := json.loads(line)).get("name") or a["error"] for line in lines]

    async def asked_after(self, seconds: float, place: str, address: str) -> str:
        """Who answers once the client has been silent for that long."""
        silence = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(seconds, silence.set_result, None)
        await silence
        [name] = await self.asked(place, address, 1)
        return name

    async def until_served(self, place: str, address: str) -> None:
        """Asks until any endpoint answers."""
        async with asyncio.timeout(PATIENCE):
            while not set(await self.asked(place, address, 1)) <= {"L", "R"}:
                pass

    async def until(self, place: str, address: str, wanted: set[str]) -> None:
        """Asks until exactly ``wanted`` answer."""
        async with asyncio.timeout(PATIENCE):
            while set(await self.asked(place, address)) != wanted:
                pass


@pytest_asyncio.fixture
async def scene(pods: Pods, client: Client) -> AsyncIterator[Scene]:
    made = Scene(pods, client)
    await made.set_up()
    yield made


FLOWS = {
    "default": ({}, {"L", "R"}),
    "eTP=Local": ({"type": "NodePort", "externalTrafficPolicy": "Local"}, {"L", "R"}),
    "iTP=Local": ({"internalTrafficPolicy": "Local"}, {"L"}),
}
"""The column ClusterIP of the canonical flows: what is asked of a Service, and who answers on node-1."""


async def test_the_canonical_flows_inside_the_cluster(scene: Scene) -> None:
    """BEHAVIOURS 1(b).7: from Pods in both modes and from the node, in both families."""
    for number, (name, (spec, wanted)) in enumerate(FLOWS.items()):
        addresses = await scene.service(f"flow-{number}", **spec)
        for place in (*MODES, "node"):
            for family in FAMILIES:
                await scene.until(place, addresses[family], wanted)
                answers = set(await scene.asked(place, addresses[family], 40))
                assert answers == wanted, (name, place, family)


L_READY, R_READY = {"ready": True}, {"ready": True}
LEAVING = {"ready": False, "serving": True, "terminating": True}
NOT_READY = {"ready": False, "serving": False}
ON_L, ON_R = {"forNodes": [{"name": HERE}]}, {"forNodes": [{"name": THERE}]}
IN_L, IN_R = {"forZones": [{"name": "zone-a"}]}, {"forZones": [{"name": "zone-b"}]}
SILENCE = {"TimeoutError"}
REFUSED = {"ConnectionRefusedError"}

CATEGORIES: dict[str, tuple[tuple[dict[str, Any], dict[str, Any]], dict[str, Any], set[str]]] = {
    "both are ready": ((L_READY, R_READY), {}, {"L", "R"}),
    "one is not ready": ((NOT_READY, R_READY), {}, {"R"}),
    "none is ready": ((NOT_READY, NOT_READY), {}, REFUSED),
    "one is leaving": ((LEAVING, R_READY), {}, {"R"}),
    "all are leaving": ((LEAVING, LEAVING), {}, {"L", "R"}),
    "one is leaving, one is not ready": ((LEAVING, NOT_READY), {}, {"L"}),
    "hints name this node": ((L_READY, R_READY), {"hints": (ON_L, ON_R)}, {"L"}),
    "hints name this zone": ((L_READY, R_READY), {"hints": (IN_L, IN_R)}, {"L"}),
    "a hint is missing": ((L_READY, R_READY), {"hints": (ON_L, {})}, {"L", "R"}),
    "hints name another node": ((L_READY, R_READY), {"hints": (ON_R, ON_R)}, {"L", "R"}),
    "local policy": ((L_READY, R_READY), {"policy": "Local"}, {"L"}),
    "local policy, the local one is leaving": ((LEAVING, R_READY), {"policy": "Local"}, {"L"}),
    "local policy, none is local": ((NOT_READY, R_READY), {"policy": "Local"}, SILENCE),
    "local policy does not look at hints": (
        (L_READY, R_READY),
        {"policy": "Local", "hints": (IN_R, IN_R)},
        {"L"},
    ),
}
"""Conditions of L on node-1 and R on node-2, what else is said, who answers on node-1 (S-30 to S-41)."""


async def test_endpoint_categories(scene: Scene, client: Client) -> None:
    """The same rows as in the planner's tests, with a slice made by hand, in both modes."""
    address = (await scene.service("by-hand", selector=None))["IPv4"]
    ips = [(await scene.pods.ready(f"server-{name}"))["status"]["podIP"] for name in "lr"]
    for name, (conditions, said, wanted) in CATEGORIES.items():
        hints = said.get("hints", ({}, {}))
        endpoints = [
            {"addresses": [ip], "conditions": c, "nodeName": node, **({"hints": h} if h else {})}
            for ip, c, node, h in zip(ips, conditions, (HERE, THERE), hints, strict=True)
        ]
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "by-hand", "labels": {"kubernetes.io/service-name": "by-hand"}},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "", "port": 8080}],
        }
        await client.patch(ENDPOINTSLICES, "by-hand", body, scene.pods.namespace, kind="apply")
        policy = {"spec": {"internalTrafficPolicy": said.get("policy", "Cluster")}}
        await client.patch(SERVICES, "by-hand", policy, scene.pods.namespace)
        for place in MODES:
            how_often = (1, ends.SILENCE) if wanted == SILENCE else (24, ends.PATIENCE)
            async with asyncio.timeout(PATIENCE):
                while (found := set(await scene.asked(place, address, *how_often))) != wanted:
                    assert found, (name, place)


async def test_an_annotation_leaves_sockets_alone(scene: Scene, client: Client) -> None:
    """Of a Pod, and of its Namespace where the Pod says nothing; live."""
    address = (await scene.service("modes"))["IPv4"]

    async def mode(pod: str) -> str:
        return (await scene.pods.run(pod, *ENDS, "mode", address, "80")).strip()

    async def until(pod: str, wanted: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while await mode(pod) != wanted:
                pass

    await scene.until_served("socket", address)
    assert [await mode(f"client-{each}") for each in (*MODES, "node")] == [*MODES, "socket"]
    choice = {"metadata": {"annotations": {"tulle.dev/socket-services": "false"}}}
    await client.patch(NAMESPACES, scene.pods.namespace, choice)
    await until("server-l", "packet")
    assert await mode("client-socket") == "socket"
    await client.patch(PODS, "client-socket", choice, scene.pods.namespace)
    await until("client-socket", "packet")


async def test_a_service_follows_its_endpoints_and_its_own_changes(scene: Scene, client: Client) -> None:
    """S-27, S-40, S-60, S-74: selector, affinity and ports change while it is in use."""
    address = (await scene.service("live"))["IPv4"]
    namespace = scene.pods.namespace

    async def change(**spec: Any) -> None:
        await client.patch(SERVICES, "live", {"spec": spec}, namespace)

    for place in MODES:
        await scene.until(place, address, {"L", "R"})
    await change(sessionAffinity="ClientIP")
    for place in MODES:
        async with asyncio.timeout(PATIENCE):
            while len(set(await scene.asked(place, address, 20))) > 1:
                pass
    await change(sessionAffinity="None", selector={"role": "nobody"})
    for place in (*MODES, "node"):
        await scene.until(place, address, {"ConnectionRefusedError"})
    await change(selector={"role": "server"}, ports=[{"port": 81, "targetPort": 8080}])
    for place in MODES:
        await scene.until(place, address, {"ConnectionRefusedError"})


async def test_a_connected_datagram_socket_is_ended_with_its_backend(
    lab: Cluster, scene: Scene, client: Client
) -> None:
    """S-66: by the agent, when the Service's endpoints are others; per packet it is led to them as it is."""
    for name, node in (("L", HERE), ("R", THERE)):
        pod = f"udp-{name.lower()}"
        await scene.pods.create(pod, *ENDS, "serve", name, "udp", "8080", nodeName=node, **MOUNT)
        await scene.pods.ready(pod)
    port = {"port": 80, "targetPort": 8080, "protocol": "UDP"}
    address = (await scene.service("datagrams", selector={"app": "udp-l"}, ports=[port]))["IPv4"]

    async def lead_to(name: str) -> None:
        selector = {"spec": {"selector": {"app": f"udp-{name}"}}}
        await client.patch(SERVICES, "datagrams", selector, scene.pods.namespace)

    for mode, then in (("socket", "EDESTADDRREQ"), ("packet", "R")):
        await client.patch(
            SERVICES, "datagrams", {"spec": {"selector": {"app": "udp-l"}}}, scene.pods.namespace
        )
        with speaking(lab, in_pod(scene.pods, f"client-{mode}", "keep", address, "80"), "ready") as ask:
            await until(ask, "L")
            await lead_to("r")
            await until(ask, then)


async def test_affinity_ends_with_its_time(scene: Scene) -> None:
    """S-60, shortened to a second: a client that was away for longer is led anew, at some time elsewhere."""
    timeout = {"clientIP": {"timeoutSeconds": 1}}
    service = await scene.service("short", sessionAffinity="ClientIP", sessionAffinityConfig=timeout)
    address = service["IPv4"]
    for place in MODES:
        async with asyncio.timeout(PATIENCE):
            while len(set(await scene.asked(place, address, 20)) - {"ConnectionRefusedError"}) != 1:
                pass  # a client that a busy machine lets wait for a second is led anew
        [first] = await scene.asked(place, address, 1)
        async with asyncio.timeout(PATIENCE):
            while await scene.asked_after(2.0, place, address) == first:
                pass


async def test_a_rolling_update_loses_no_request(lab: Cluster, scene: Scene, client: Client) -> None:
    """N-18: Pods that are about to end get no new connection once they say so."""
    labels, namespace = {"role": "rolling"}, scene.pods.namespace
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 10,
            "containers": [
                {
                    "name": "main",
                    "image": "host",
                    "command": [*ENDS, "serve", "one", "tcp", "8080"],
                    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                    "lifecycle": {"preStop": {"exec": {"command": ["sleep", "1"]}}},
                    "volumeMounts": MOUNT["volumeMounts"],
                }
            ],
            "volumes": MOUNT["volumes"],
        },
    }
    spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}
    await client.create(DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec}, namespace)
    addresses = await scene.service("web", selector=labels)
    for mode in MODES:
        await scene.until(mode, addresses["IPv4"], {"one"})
    with (
        load(lab, in_pod(scene.pods, "client-socket", "load", "web", "80")) as by_name,
        load(lab, in_pod(scene.pods, "client-packet", "load", addresses["IPv4"], "80")) as by_address,
    ):
        lab.kubectl("-n", namespace, "rollout", "restart", "deployment/web")
        lab.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=90s")
    for [result] in (by_name, by_address):
        assert result["failures"] == []
        assert result["answered"]["one"] > 100


async def test_nothing_fails_while_agents_and_dns_are_killed() -> None:
    """S-73: packets pass neither, and names wait for the next worker. In a lab of its own: it is broken."""
    with cluster(nodes=NODES) as broken:
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
                kill_agents_and_workers(broken)
                broken.tulle("up", f"--nodes={NODES}")
                await scene.until("packet", address, {"L", "R"})
            for [result] in (by_name, by_address):
                assert result["failures"] == []
                assert set(result["answered"]) == {"L", "R"}


def kill_agents_and_workers(broken: Cluster) -> None:
    """Those who answer names are the children of the process that holds their sockets."""
    for node in (HERE, THERE):
        agent, dns = broken.process(node, "agent"), broken.process(node, "dns")
        children = Path(f"/proc/{dns.pid}/task/{dns.pid}/children").read_text().split()
        assert children
        for pid in (agent.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
