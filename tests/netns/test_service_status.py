"""``tulle status`` on Services: from the kernel alone, and beside a real API server and a real agent."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from nodes import NOBODY, Node
from services import ADDRESSES, CIDRS, Services, ip_of, plan
from tests.lab.apiserver_process import ApiServer

from tulle.agent.service_status import services_status
from tulle.agent.settings import Settings
from tulle.kernel import netns
from tulle.pod_to_pod.datapath import Pinned
from tulle.pod_to_service.compare import say_frontend
from tulle.pod_to_service.entries import Entries
from tulle.pod_to_service.plan import OnEmpty

ENDS = str(Path(__file__).parents[1] / "ends.py")
Cluster = Callable[..., list[Node]]
Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[Path]]


def run_status(node: Node, *flags: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "kubeconfig": node.folder.parent / "kubeconfig",
        "node-name": node.name,
        "state-dir": node.folder / "state",
        "bpffs": node.bpffs,
    }
    command = [sys.executable, "-m", "tulle", "status", *(f"--{n}={v}" for n, v in settings.items()), *flags]
    return node.run(*command, check=False)


def status(node: Node, *flags: str, code: int = 0) -> str:
    """What it prints, and what it says of a failure."""
    done = run_status(node, *flags)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def shown(node: Node, *flags: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(status(node, "-o", "json", *flags, code=code))
    return found.get("services", found)


def by_frontend(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {frontend: port for port in found["ports"] for frontend in port["frontends"]}


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


def wait_for(condition: Callable[[], bool], what: str, patience: float = 20.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        select.select([], [], [], 0.05)


def test_the_kernel_alone(written: Node) -> None:
    """Neither an API nor an agent is there."""
    written.kill_agent()
    found = shown(written)
    near = written.pods[0]
    assert "Connection refused" in found["apiError"]
    assert found["cidrs"] == sorted(map(str, CIDRS))
    assert found["clients"] == {"node": 1, "pod": 1, "pod_packets": 0}
    assert found["sizes"]["frontends"] == {"used": 5, "most": 131072}
    assert [found["sizes"][n]["used"] for n in ("services", "sets", "backends", "affinities")] == [3, 3, 3, 1]
    ports = by_frontend(found)
    assert set(ports) == {"10.96.0.7:80/TCP", "[fd00:10:96::7]:80/UDP", "[fd00:10:96::7]:80/TCP"}
    web, dns, empty = (
        ports[f] for f in ("10.96.0.7:80/TCP", "[fd00:10:96::7]:80/UDP", "[fd00:10:96::7]:80/TCP")
    )
    assert (web["hits"], web["affinity"], web["whenEmpty"]) == (2, 100, "refuse")
    assert [(e["endpoint"], e["inKernel"], e["used"]) for e in web["endpoints"]] == [
        (f"{ip_of(near, 4)}:8080", True, None)
    ]
    assert {e["endpoint"] for e in dns["endpoints"]} == {f"[{ip_of(near, 6)}]:8080", "[fd00::5]:81"}
    assert (empty["endpoints"], empty["whenEmpty"], empty["hits"]) == ([], "drop", 0)
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


WEB = "10.96.0.7:80/TCP"
ZONE_A, ZONE_B = {"name": "zone-a"}, {"name": "zone-b"}


class Api:
    """An API server on loopback in a node's own network, which the node's agent and kubectl reach."""

    def __init__(self, node: Node, folder: Path) -> None:
        folder.mkdir()
        with netns.entered(node.path):
            listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._server = ApiServer(folder, listener)
        self._server.start()
        self._node = node
        self._folder = folder
        (node.folder.parent / "kubeconfig").write_bytes(self._server.kubeconfig.read_bytes())

    def kubectl(self, *arguments: str) -> None:
        command = ("env", f"KUBECACHEDIR={self._folder}/cache", "kubectl")
        self._node.run(*command, f"--kubeconfig={self._server.kubeconfig}", *arguments)

    def apply(self, kind: str, name: str, version: str = "v1", **fields: Any) -> None:
        meta = {"name": name, **fields.pop("metadata", {})}
        body = {"apiVersion": version, "kind": kind, "metadata": meta, **fields}
        manifest = self._folder / "manifest.json"
        manifest.write_text(json.dumps(body))
        self.kubectl("apply", "--server-side", f"--filename={manifest}")

    def apply_slice(self, *endpoints: dict[str, Any]) -> None:
        self.apply(
            "EndpointSlice",
            "web-1",
            "discovery.k8s.io/v1",
            metadata={"labels": {"kubernetes.io/service-name": "web"}},
            addressType="IPv4",
            ports=[{"name": "http", "port": 8080, "protocol": "TCP"}],
            endpoints=list(endpoints),
        )

    def close(self) -> None:
        self._server.close()


def endpoint(address: str, node: str = "other", ready: bool = True, **more: Any) -> dict[str, Any]:
    conditions = {"ready": ready, "serving": ready, "terminating": False}
    return {"addresses": [address], "nodeName": node, "conditions": conditions, **more}


@pytest.fixture
def followed(cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Node, Api]]:
    """An agent that has the Service default/web from an API: three endpoints, of which two are ready."""
    [node] = cluster(start=False)
    api = Api(node, tmp_path / "api")
    try:
        zone = {"topology.kubernetes.io/zone": "zone-a"}
        cidr = str(node.host.pod_cidrs[0])
        api.apply("Node", node.name, metadata={"labels": zone}, spec={"podCIDR": cidr, "podCIDRs": [cidr]})
        internal = {"addresses": [{"type": "InternalIP", "address": ip_of(node, 4)}]}
        api.kubectl(
            "patch", "node", node.name, "--subresource=status", f"--patch={json.dumps({'status': internal})}"
        )
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        api.apply("Service", "web", spec={"clusterIP": ADDRESSES[4], "ports": ports})
        api.apply("Service", "nothing", spec={"clusterIP": "None", "ports": ports})
        api.apply_slice(endpoint("10.244.7.1"), endpoint("10.244.7.2"), endpoint("10.244.7.3", ready=False))
        node.start_agent()
        wait_for(lambda: has(node, WEB), "the agent has written the Service")
        yield node, api
    finally:
        api.close()


def has(node: Node, frontend: str) -> bool:
    found = json.loads(run_status(node, "-o", "json").stdout)["services"]
    return by_frontend(found).get(frontend, {}).get("index") is not None


def test_beside_an_api_that_the_kernel_agrees_with(followed: tuple[Node, Api]) -> None:
    node, _ = followed
    found = shown(node)
    assert found["apiError"] == "" and found["differences"] == []
    assert "10.96.0.0/16" in found["cidrs"]
    assert "default/nothing" in found["withoutPorts"]
    ports = by_frontend(found)
    assert {"default/web", "default/kubernetes"} <= {port["service"] for port in found["ports"]}
    states = {
        e["endpoint"]: (e["inKernel"], e["used"], e["ready"], e["why"]) for e in ports[WEB]["endpoints"]
    }
    assert states == {
        "10.244.7.1:8080": (True, True, True, ""),
        "10.244.7.2:8080": (True, True, True, ""),
        "10.244.7.3:8080": (False, False, False, "not ready"),
    }
    assert "all as the API says" in status(node)
    one = status(node, "--service", "default/web")
    assert one.startswith(f"default/web http TCP at {WEB}\n") and "10.244.7.3:8080" in one
    assert "needs nothing in the kernel" in status(node, "--service", "default/nothing", code=1)


def test_differences_are_marked_and_no_success(followed: tuple[Node, Api]) -> None:
    """The agent is gone while the API changes; the next one mends it."""
    node, api = followed
    node.kill_agent()
    api.apply_slice(
        endpoint("10.244.7.1", hints={"forZones": [ZONE_B]}),
        endpoint("10.244.7.4", hints={"forZones": [ZONE_A]}),
    )
    api.apply("Service", "new", spec={"clusterIP": "10.96.0.8", "ports": [{"port": 53, "protocol": "UDP"}]})
    ports = by_frontend(shown(node, code=1))
    assert ports[WEB]["differences"] == [
        "endpoint 10.244.7.4:8080: missing in the kernel",
        "endpoint 10.244.7.1:8080: only in the kernel",
        "endpoint 10.244.7.2:8080: only in the kernel",
    ]
    whys = {e["endpoint"]: (e["inKernel"], e["used"], e["why"]) for e in ports[WEB]["endpoints"]}
    assert whys == {
        "10.244.7.1:8080": (True, False, "meant for zone zone-b"),
        "10.244.7.4:8080": (False, True, ""),
        "10.244.7.2:8080": (True, None, ""),
    }
    assert ports["10.96.0.8:53/UDP"]["differences"] == [
        "10.96.0.8:53/UDP: missing in the kernel",
        "10.96.0.8, refusing other ports: missing in the kernel",
    ]
    table = status(node, code=1)
    assert "2 differ from what the API says" in table
    assert "default/new" in table and "default/kubernetes" not in table
    status(node, "--service=default/kubernetes")
    api.kubectl("delete", "service", "web")
    assert "? " in status(node, "--service=10.96.0.7", code=1)
    node.start_agent()
    wait_for(lambda: run_status(node).returncode == 0, "the next agent has mended it")


def test_a_change_of_the_kernel_is_noticed(followed: tuple[Node, Api]) -> None:
    """Whoever made it; here one frontend is taken away."""
    node, _ = followed
    maps = Pinned(node.bpffs)
    entries = Entries(maps.contract)
    [key] = [
        key
        for key in maps.open("frontends", 4).items(entries.frontend_size)
        if say_frontend(entries.read_frontend(key)) == WEB
    ]
    maps.open("frontends", 4).discard(key)
    assert by_frontend(shown(node, code=1))[WEB]["differences"] == [f"{WEB}: missing in the kernel"]


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


NODE_OBJECT = {"metadata": {"name": "node-1"}}


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
            return web.json_response(NODE_OBJECT)
        numbers = (first, second)[len(looks) - 1] if request.path == "/api/v1/services" else []
        return web.json_response({"items": [unknown_service(f"10.96.1.{n}") for n in numbers]})

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
        return web.json_response(NODE_OBJECT if "nodes" in request.path else {"items": []})

    settings = Settings(node_name="node-1", kubeconfig=str(await aiohttp_api(answer)), bpffs=str(node.bpffs))
    try:
        found = await services_status(settings)
    finally:
        services.table.set_cidrs(())
    assert found.well and found.cidrs == tuple(sorted(map(str, CIDRS)))
