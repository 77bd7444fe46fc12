"""``tulle status`` on Services: from the kernel alone, and beside an API that says what a test wants."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from nodes import FLOWS, NOBODY, Node
from services import ADDRESSES, CIDRS, Services, ip_of, plan
from status_of import by_frontend, shown, status

from tulle.agent.services.status import services_status
from tulle.agent.settings import Settings
from tulle.kernel import netns
from tulle.pod_to_service.plan import OnEmpty

ENDS = str(Path(__file__).parents[1] / "ends.py")
Cluster = Callable[..., list[Node]]
Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[Path]]


@pytest.fixture
def written(cluster: Cluster) -> Node:
    """A node without an API, with three ports of a Service, and one client that connected twice."""
    [node] = cluster()
    near = node.add("near")
    server = near.popen(sys.executable, ENDS, "serve", "near", "tcp", "8080")
    near.children.append(server)
    assert server.stdout and server.stdout.readline() == "ready\n"
    services = Services(node)
    services.apply(
        plan(4, [(ip_of(near, 4), 8080)], affinity=100),
        plan(6, [(ip_of(near, 6), 8080), ("fd00::5", 81)], "UDP"),
        plan(6, [], on_empty=OnEmpty.DROP),
    )
    near.run(sys.executable, ENDS, "ask", "tcp", ADDRESSES[4], "80", "2", "64")
    return node


def test_the_kernel_alone(written: Node) -> None:
    """Neither an API nor an agent is there."""
    written.kill_agent()
    found = shown(written)
    near = written.pods[0]
    assert "Connection refused" in found["apiError"]
    assert found["cidrs"] == sorted(map(str, CIDRS))
    assert found["clients"] == {"node": 1, "pod": 1, "pod_packets": 0}
    assert found["sizes"]["frontends"] == {"used": 5, "most": 131072}
    assert found["sizes"]["flows"] == {"used": 0, "most": FLOWS}
    assert [found["sizes"][n]["used"] for n in ("services", "sets", "backends", "affinities")] == [3, 3, 3, 1]
    ports = by_frontend(found)
    assert set(ports) == {"10.96.0.7:80/TCP", "[fd00:10:96::7]:80/UDP", "[fd00:10:96::7]:80/TCP"}
    web, dns, empty = (
        ports[f] for f in ("10.96.0.7:80/TCP", "[fd00:10:96::7]:80/UDP", "[fd00:10:96::7]:80/TCP")
    )
    [chosen] = web["sets"]
    assert (chosen["hits"], chosen["affinity"], chosen["whenEmpty"]) == (2, 100, "refuse")
    assert [(e["endpoint"], e["inKernel"], e["used"]) for e in web["endpoints"]] == [
        (f"{ip_of(near, 4)}:8080", ["cluster"], None)
    ]
    assert {e["endpoint"] for e in dns["endpoints"]} == {f"[{ip_of(near, 6)}]:8080", "[fd00::5]:81"}
    assert (empty["endpoints"], empty["sets"][0]["whenEmpty"], empty["sets"][0]["hits"]) == ([], "drop", 0)
    assert not any(port["service"] or port["differences"] for port in found["ports"])


def test_for_people_and_for_machines(written: Node) -> None:
    """The table says only what there is to look at, unless it is asked for more."""
    few, all_of_them = status(written), status(written, "--services")
    assert "3 ports in the kernel, 2 times an endpoint was chosen" in few
    assert "the API did not answer" in few and "[fd00:10:96::7]:80/UDP" not in few
    assert "[fd00:10:96::7]:80/UDP" in all_of_them
    one = status(written, "--service", "fd00:10:96:0::7")
    assert "[fd00::5]:81" in one and "10.96.0.7" not in one
    as_yaml = msgspec.yaml.decode(status(written, "-o", "yaml").encode())
    assert as_yaml["services"] == shown(written)
    assert list(by_frontend(shown(written, "--service", ADDRESSES[4]))) == ["10.96.0.7:80/TCP"]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("default/web", "the kernel knows no names, give an address"),
        ("10.96.0.70", "--service 10.96.0.70: there is none"),
        ("web", "is neither NAMESPACE/NAME nor an IP address"),
    ],
)
def test_a_service_that_is_not_found(shared: Cluster, asked: str, answer: str) -> None:
    assert answer in status(shared()[0], "--service", asked, code=1)


@pytest.fixture
async def aiohttp_api(tmp_path: Path) -> AsyncIterator[Serve]:
    """``await aiohttp_api(answer)`` starts a server that says anything, and returns a kubeconfig for it."""
    servers: list[TestServer] = []

    async def start(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Path:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        servers.append(TestServer(app))
        await servers[0].start_server()
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(NOBODY.replace("http://127.0.0.1:1", str(servers[0].make_url(""))))
        return kubeconfig

    yield start
    for server in servers:
        await server.close()


def node_object(node: Node) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": ip} for ip in node.ips]
    return {"metadata": {"name": "node-1"}, "status": {"addresses": addresses}}


def unknown_service(address: str) -> dict[str, Any]:
    spec = {"clusterIP": address, "ports": [{"name": "http", "port": 80}]}
    return {"metadata": {"name": f"web-{address}", "namespace": "default"}, "spec": spec}


@pytest.mark.parametrize(
    ("first", "second", "well"),
    [([7], [], True), ([], [7], True), ([7], [7], False), ([7], [8], True)],
    ids=["it came", "it came after the first look", "it stays away", "another one"],
)
async def test_a_difference_is_looked_at_twice(
    shared: Cluster, aiohttp_api: Serve, first: list[int], second: list[int], well: bool
) -> None:
    """A change may be under way: only what both looks find is one."""
    [node] = shared()
    looks: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if request.path.startswith("/api/v1/nodes/"):
            looks.append(request.path)
            return web.json_response(node_object(node))
        numbers = (first, second)[len(looks) - 1] if request.path == "/api/v1/services" else []
        return web.json_response({"items": [unknown_service(f"10.96.1.{n}") for n in numbers]})

    with netns.entered(node.path):  # whose addresses are looked at
        kubeconfig = await aiohttp_api(answer)
        settings = Settings(node_name="node-1", kubeconfig=str(kubeconfig), bpffs=str(node.bpffs))
        found = await services_status(settings)
    assert (found.api_error, found.well, len(looks)) == ("", well, 2 if first else 1)


async def test_an_api_that_is_silent_is_not_waited_for(shared: Cluster, aiohttp_api: Serve) -> None:
    [node] = shared()
    silence = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        await silence.wait()
        return web.Response()

    settings = Settings(node_name="node-1", kubeconfig=str(await aiohttp_api(answer)), bpffs=str(node.bpffs))
    found = await services_status(settings)
    silence.set()
    assert "did not answer within 2 s" in found.api_error and found.well


async def test_a_node_that_the_api_does_not_know(shared: Cluster, aiohttp_api: Serve) -> None:
    """Planned for nobody, every endpoint would be elsewhere."""
    [node] = shared()

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"code": 404, "reason": "NotFound"}, status=404)

    settings = Settings(node_name="typo", kubeconfig=str(await aiohttp_api(answer)), bpffs=str(node.bpffs))
    found = await services_status(settings)
    assert "nodeName: there is no Node typo" in found.api_error


async def test_an_api_without_service_cidrs(shared: Cluster, aiohttp_api: Serve) -> None:
    """Kubernetes before 1.33: then nothing is said about those of the kernel (S-16)."""
    [node] = shared()
    services = Services(node)

    async def answer(request: web.Request) -> web.Response:
        if "servicecidrs" in request.path:
            return web.json_response({"code": 404, "reason": "NotFound"}, status=404)
        return web.json_response(node_object(node) if "nodes" in request.path else {"items": []})

    with netns.entered(node.path):
        kubeconfig = str(await aiohttp_api(answer))
        settings = Settings(node_name="node-1", kubeconfig=kubeconfig, bpffs=str(node.bpffs))
        try:
            found = await services_status(settings)
        finally:
            services.table.set_cidrs(())
    assert found.well and found.cidrs == tuple(sorted(map(str, CIDRS)))
