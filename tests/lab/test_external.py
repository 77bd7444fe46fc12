"""Services from outside, in a whole cluster: *world* is the client, and the Pod says whom it saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from itertools import product
from secrets import token_hex

import pytest
import pytest_asyncio
from doors import (
    FAMILIES,
    HERE,
    MODES,
    REFUSED,
    SILENCE,
    THERE,
    VIPS,
    WAYS,
    Doors,
    family_of,
    narrow,
    node_port,
    route,
    routed,
    too_big,
)
from livelab import Cluster, Pods
from loads import ask, in_pod, load, on_host, speaking, until, who
from tests.canonical import CANONICAL, Door, Source

from tulle.kube.client import Client
from tulle.kube.resources import DEPLOYMENTS, NAMESPACES, SERVICES

NODES = (HERE, THERE)


@pytest.fixture(scope="module")
def namespace(lab: Cluster) -> Iterator[str]:
    """With the Pods, for all tests: each of them makes its own Services."""
    name = f"t-{token_hex(4)}"
    asyncio.run(set_up(lab, name))
    yield name
    lab.kubectl("delete", "namespace", name, "--wait=false")
    lab.kubectl("-n", name, "delete", "pods", "--all", "--force", "--wait=false")


async def set_up(lab: Cluster, name: str) -> None:
    async with lab.lab.client() as client:
        await client.create(NAMESPACES, {"metadata": {"name": name}})
        await Doors(lab, Pods(client, name), client).set_up()


@pytest_asyncio.fixture
async def doors(lab: Cluster, namespace: str, client: Client) -> AsyncIterator[Doors]:
    yield Doors(lab, Pods(client, namespace), client)
    for service in (await client.list(SERVICES, namespace)).items:
        await client.delete(SERVICES, service["metadata"]["name"], namespace)


async def test_node_ports_lead_to_all_endpoints_who_see_the_client(doors: Doors) -> None:
    """S-21, S-43, DESIGN: at each node, to Pods of both, and nobody but the client is seen as the client."""
    service = await doors.service("web")
    for node in NODES:
        for family in FAMILIES:
            address, client = doors.at[node][family], doors.at["world"][family]
            for way in WAYS:
                port = node_port(service, way.split("-")[0])
                await doors.until("world", way, address, port, {"L", "R"})
                answers = await ask(doors.lab, way, address, port, 40)
                assert set(who(answers)) == {"L", "R"}, (node, family, way)
                assert {a["seen"] for a in answers} == {client}
                assert all(a["peer"] == [address, port] for a in answers)


async def test_pods_and_nodes_reach_the_node_ports_of_all_nodes(doors: Doors) -> None:
    """S-22, S-45, S-46; the hairpin of a server through its own node's port and the other's (N-09)."""
    port = node_port(await doors.service("web"))
    clients = [*(f"{kind}-{node}" for kind in (*MODES, "host") for node in NODES), "server-l", "server-r"]
    for pod in clients:
        for node in NODES:
            for family in FAMILIES:
                await doors.until(pod, "tcp", doors.at[node][family], port, {"L", "R"})


CLIENTS = {
    f"socket-{HERE}": Source.POD,
    f"packet-{HERE}": Source.POD,
    f"host-{HERE}": Source.NODE,
    "world": Source.OUTSIDE,
}


async def test_the_canonical_flows(doors: Doors) -> None:
    """BEHAVIOURS 1(b).7: all 27 at node-1, in both families, and policies that change live (S-74).

    An endpoint sees the client's own address in each: kube-proxy's M is a "may".
    """
    service = await doors.service("web", type="LoadBalancer", loadBalancerClass="example.com/none")
    await doors.balance("web", *({"ip": address} for address in VIPS.values()))
    cluster = {family_of(address): address for address in service["spec"]["clusterIPs"]}
    own = {place: await doors.addresses(place) for place in CLIENTS}
    for policies in dict.fromkeys(policies for policies, _, _ in CANONICAL):
        words = {True: "Local", False: "Cluster"}
        await doors.change(
            "web",
            internalTrafficPolicy=words[policies.internal_local],
            externalTrafficPolicy=words[policies.external_local],
        )
        for family in FAMILIES:
            ends = {
                Door.CLUSTER_IP: (cluster[family], 80),
                Door.NODE_PORT: (doors.at[HERE][family], node_port(service)),
                Door.BALANCER: (VIPS[family], 80),
            }
            with ExitStack() as routes:
                for door in (Door.CLUSTER_IP, Door.BALANCER):
                    routes.enter_context(routed(doors.lab, ends[door][0], doors.at[HERE][family]))
                for (place, source), (door, end) in product(CLIENTS.items(), ends.items()):
                    wanted, _ = CANONICAL[policies, source, door]
                    answers = await doors.until(place, "tcp", *end, set(wanted))
                    assert {a["seen"] for a in answers} == {own[place][family]}, (policies, place, door)


async def test_external_traffic_policy_local_without_an_endpoint(doors: Doors) -> None:
    """S-42, S-45 to S-47: the only one is on node-1; node-2 drops who comes in, and leads its own."""
    service = await doors.service("one", externalTrafficPolicy="Local", selector={"name": "L"})
    port = node_port(service)
    for family in FAMILIES:
        here, there = doors.at[HERE][family], doors.at[THERE][family]
        for place in (f"{kind}-{THERE}" for kind in (*MODES, "host")):
            await doors.until(place, "tcp", there, port, {"L"})
            await doors.until(place, "tcp", here, port, {"L"})
        await doors.until("world", "tcp", here, port, {"L"})
        asked = [("world", "tcp", port), ("world", "udp", node_port(service, "udp"))]
        asked += [(f"{kind}-{HERE}", "tcp", port) for kind in (*MODES, "host")]
        silent = (doors.until(place, how, there, number, SILENCE) for place, how, number in asked)
        await asyncio.gather(*silent)


async def test_addresses_of_load_balancers_and_external_ips(doors: Doors) -> None:
    """S-23 to S-25, S-61, S-74: by either node; whom the ranges do not name is dropped, at VIPs only."""
    external = {"IPv4": "198.51.100.9", "IPv6": "2001:db8:51::9"}
    ingress = [{"ip": address} for address in VIPS.values()]
    service = await doors.service(
        "web",
        type="LoadBalancer",
        loadBalancerClass="example.com/none",
        allocateLoadBalancerNodePorts=False,
        externalIPs=list(external.values()),
    )
    assert not any("nodePort" in port for port in service["spec"]["ports"])
    await doors.balance("web", *ingress)
    with ExitStack() as routes:
        for node in NODES:
            for family in FAMILIES:
                for address in (VIPS[family], external[family]):
                    with routed(doors.lab, address, doors.at[node][family]):
                        await doors.until("world", "tcp", address, 80, {"L", "R"})
                        answers = await ask(doors.lab, "udp", address, 80, 20)
                        assert {a["seen"] for a in answers} == {doors.at["world"][family]}
                        assert set(who(answers)) == {"L", "R"}
        for place in ("server-l", *(f"{kind}-{node}" for kind in (*MODES, "host") for node in NODES)):
            for address in (*VIPS.values(), *external.values()):
                await doors.until(place, "tcp", address, 80, {"L", "R"})
        for family in FAMILIES:
            for address in (VIPS[family], external[family]):
                routes.enter_context(routed(doors.lab, address, doors.at[HERE][family]))
        allowed = [f"{address}/{32 if '.' in address else 128}" for address in doors.at["world"].values()]
        await doors.change("web", loadBalancerSourceRanges=["192.0.2.0/24", "2001:db8:2::/64"])
        for family in FAMILIES:
            await doors.until("world", "tcp", VIPS[family], 80, SILENCE)
            await doors.until(f"packet-{THERE}", "tcp", VIPS[family], 80, SILENCE)
            await doors.until(f"socket-{HERE}", "tcp", VIPS[family], 80, SILENCE)
            await doors.until("world", "tcp", external[family], 80, {"L", "R"})
        await doors.change("web", loadBalancerSourceRanges=allowed)
        for family in FAMILIES:
            await doors.until("world", "tcp", VIPS[family], 80, {"L", "R"})
            await doors.until(f"socket-{THERE}", "tcp", VIPS[family], 80, SILENCE)
        await doors.change("web", loadBalancerSourceRanges=None)
        await doors.until(f"socket-{THERE}", "tcp", VIPS["IPv4"], 80, {"L", "R"})
        await doors.until("world", "tcp", VIPS["IPv4"], 8888, REFUSED)


async def test_cluster_ips_from_outside(doors: Doors) -> None:
    """S-20, S-48: where a route leads to a node; internalTrafficPolicy counts there, too."""
    service = await doors.service("web", type="ClusterIP")
    for node in NODES:
        for address in service["spec"]["clusterIPs"]:
            family = family_of(address)
            with routed(doors.lab, address, doors.at[node][family]):
                await doors.until("world", "tcp", address, 80, {"L", "R"})
                answers = await ask(doors.lab, "udp", address, 80, 20)
                assert {a["seen"] for a in answers} == {doors.at["world"][family]}
    await doors.change("web", internalTrafficPolicy="Local")
    address = next(a for a in service["spec"]["clusterIPs"] if ":" not in a)
    with routed(doors.lab, address, doors.at[THERE]["IPv4"]):
        await doors.until("world", "tcp", address, 80, {"R"})


async def test_no_endpoint_is_refused_and_comes_back(doors: Doors) -> None:
    """S-28, S-40, S-66: also for a client that has been sending all the time; and gone with the Service."""
    service = await doors.service("web", selector={"name": "nobody"})
    places = ("world", f"socket-{HERE}", f"packet-{HERE}", f"host-{HERE}")
    for place in places:
        for family in FAMILIES:
            for node in NODES:
                await doors.until(place, "tcp", doors.at[node][family], node_port(service), REFUSED)
    address, port = doors.at[HERE]["IPv4"], node_port(service, "udp")
    line = on_host(doors.lab, "world", "keep", address, str(port), "40999")
    with speaking(doors.lab, line, "ready") as say:
        await until(say, "ECONNREFUSED")
        await doors.change("web", selector={"name": "R"})
        await until(say, "R")


async def test_datagrams_from_one_port_follow_the_endpoints(doors: Doors) -> None:
    """S-65, S-66, trap 15: here, elsewhere, and the same through the other node."""
    service = await doors.service("web", selector={"name": "L"})
    port = node_port(service, "udp")
    for number, (node, family) in enumerate(((HERE, "IPv4"), (THERE, "IPv6"))):
        await doors.change("web", selector={"name": "L"})
        line = on_host(doors.lab, "world", "keep", doors.at[node][family], str(port), f"4100{number}")
        with speaking(doors.lab, line, "ready") as say:
            for name in ("L", "R", "L"):
                await doors.change("web", selector={"name": name})
                await until(say, name)


async def test_a_port_of_a_node_and_its_backend_are_asked_from_one_port(doors: Doors) -> None:
    """By sockets one after the other: the answers to the second are not those to the first."""
    service = await doors.service("one", selector={"name": "R"})
    pod = await doors.pods.ready("server-r")
    doorways = (doors.at[THERE]["IPv4"], node_port(service, "udp")), (pod["status"]["podIP"], 8080)
    for number, ends in enumerate((doorways, doorways[::-1])):
        for address, port in ends:
            await doors.until(f"host-{HERE}", "udp", address, port, {"R"}, times=1)
            line = in_pod(doors.pods, f"host-{HERE}", "keep", address, str(port), f"4200{number}")
            with speaking(doors.lab, line, "ready") as say:
                assert await asyncio.to_thread(say) == "R", (address, port)


async def test_large_packets_by_the_way_of_another_node(doors: Doors) -> None:
    """S-68, S-69: also what does not fit into the overlay, and what comes in fragments."""
    service = await doors.service("one", selector={"name": "R"})
    for family in FAMILIES:
        address = doors.at[HERE][family]
        await doors.until("world", "udp", address, node_port(service, "udp"), {"R"})
        for way, sizes in (("udp", (1400, 1440, 1450, 1472, 4000, 9000)), ("tcp", (1460, 300_000))):
            for size in sizes:
                [seen] = await ask(doors.lab, way, address, node_port(service, way), 1, size)
                assert (seen.get("name"), seen.get("size")) == ("R", size), (family, way, size, seen)


async def test_path_mtu(doors: Doors) -> None:
    """S-68: a router towards the client tells what is too big, and a Pod on either node hears it."""
    for name in ("L", "R"):
        service = await doors.service(name.lower(), selector={"name": name})
        for family in FAMILIES:
            address, port = doors.at[HERE][family], node_port(service)
            await doors.until("world", "tcp", address, port, {name})
            before = too_big(doors.lab)[family]
            with narrow(doors.lab, 1300):
                [seen] = await ask(doors.lab, "tcp", address, port, 1, 300_000)
            assert (seen.get("name"), seen.get("size")) == (name, 300_000), (family, seen)
            assert too_big(doors.lab)[family] > before


async def test_a_connection_survives_the_move_of_its_address_to_another_node(doors: Doors) -> None:
    """The other node chooses the same backend by itself, be it its own Pod or one that it hands over to."""
    await doors.service("web", type="LoadBalancer", loadBalancerClass="example.com/none")
    await doors.balance("web", *({"ip": address} for address in VIPS.values()))
    for family in FAMILIES:
        vip, first, second = VIPS[family], doors.at[HERE][family], doors.at[THERE][family]
        with routed(doors.lab, vip, first):
            await doors.until("world", "tcp", vip, 80, {"L", "R"})
            with ExitStack() as stack:
                line = on_host(doors.lab, "world", "converse", vip, "81")
                held, names = [], list[str]()
                while len(held) < 12 or set(names) != {"L", "R"}:  # a flow's hash is chance
                    held.append(stack.enter_context(speaking(doors.lab, line, "ready")))
                    names.append(await asyncio.to_thread(held[-1]))
                    assert len(held) < 64, names
                for node in (second, first):
                    route(doors.lab, "replace", vip, node)
                    assert [await asyncio.to_thread(say) for say in held] == names


async def test_connections_keep_their_backend_to_the_end(doors: Doors) -> None:
    """S-28, S-65: when it is none any more, and when there is no Service any more."""
    service = await doors.service("web")
    port, lines = node_port(service), str(node_port(service, "lines"))
    with ExitStack() as stack:
        held = []
        for node, family in product(NODES, FAMILIES):
            address = doors.at[node][family]
            await doors.until("world", "tcp", address, port, {"L", "R"})
            line = on_host(doors.lab, "world", "converse", address, lines)
            held += [stack.enter_context(speaking(doors.lab, line, "ready")) for _ in range(5)]
        names = [await asyncio.to_thread(say) for say in held]
        assert set(names) == {"L", "R"}
        await doors.change("web", selector={"role": None, "name": "L"})
        await doors.until("world", "tcp", doors.at[HERE]["IPv4"], port, {"L"})
        assert [await asyncio.to_thread(say) for say in held] == names
        await doors.client.delete(SERVICES, "web", doors.pods.namespace)
        for node, family in product(NODES, FAMILIES):
            await doors.until("world", "tcp", doors.at[node][family], port, REFUSED)
        assert [await asyncio.to_thread(say) for say in held] == names


async def test_affinity_is_one_for_all_doors_of_a_service(doors: Doors) -> None:
    """S-60: by each node's port, from outside, and by ClusterIP and NodePort from a Pod."""
    service = await doors.service("stay", sessionAffinity="ClientIP")
    [cluster, *_] = service["spec"]["clusterIPs"]
    port, family = node_port(service), family_of(cluster)
    for node in NODES:
        await doors.until_served("world", doors.at[node][family], port)
    met = {
        name for node in NODES for name in who(await ask(doors.lab, "tcp", doors.at[node][family], port, 20))
    }
    assert len(met) == 1, "all nodes choose by the client's address alone"
    for pod in (f"{mode}-{HERE}" for mode in MODES):
        [first] = who(await doors.inside(pod, "tcp", cluster, 80))
        for address, at in ((cluster, 80), (doors.at[HERE][family], port)):
            assert set(who(await doors.inside(pod, "tcp", address, at, 20))) == {first}


async def test_a_rolling_update_fails_no_client_outside(doors: Doors) -> None:
    """N-18, S-31: through both nodes, while Pods come and go on both."""
    labels, namespace = {"role": "rolling"}, doors.pods.namespace
    main = {
        "name": "main",
        "image": "host",
        "command": ["python3", "/ends/ends.py", "serve", "one", "tcp", "8080"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "1"]}}},
        "volumeMounts": [{"name": "ends", "mountPath": "/ends"}],
    }
    volumes = [{"name": "ends", "configMap": {"name": "ends"}}]
    pod = {"terminationGracePeriodSeconds": 10, "containers": [main], "volumes": volumes}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 4, "selector": {"matchLabels": labels}, "template": template}
    await doors.client.create(DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec}, namespace)
    port = str(node_port(await doors.service("web", selector=labels)))
    for node in NODES:
        await doors.until("world", "tcp", doors.at[node]["IPv4"], int(port), {"one"})
    with (
        load(doors.lab, on_host(doors.lab, "world", "load", doors.at[HERE]["IPv4"], port)) as by_v4,
        load(doors.lab, on_host(doors.lab, "world", "load", doors.at[THERE]["IPv6"], port)) as by_v6,
        load(
            doors.lab, in_pod(doors.pods, f"packet-{HERE}", "load", doors.at[THERE]["IPv4"], port)
        ) as pod_load,
    ):
        doors.lab.kubectl("-n", namespace, "rollout", "restart", "deployment/web")
        doors.lab.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=90s")
    await doors.client.delete(DEPLOYMENTS, "web", namespace, propagation="Background")
    for [result] in (by_v4, by_v6, pod_load):
        assert result["failures"] == []
        assert result["answered"]["one"] > 100
