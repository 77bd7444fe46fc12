"""Nodes with agents, the real API, and a router that runs BIRD in the underlay, beside the nodes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from nodes import Cluster, Node, enter
from tests.lab.apiserver_process import ApiServer

from tulle.errors import NotFound
from tulle.external_to_service.crds import crds
from tulle.kernel import netns
from tulle.kube.client import Client
from tulle.kube.config import load_kubeconfig
from tulle.kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    ENDPOINTSLICES,
    EVENTS,
    LOAD_BALANCER_POOLS,
    NODES,
    SECRETS,
    SERVICES,
    Resource,
    Untyped,
)
from tulle.lab.spec import Spec, topology
from tulle.lab.underlay import UNDERLAY

ROUTER, ROUTER6 = "172.30.1.1", "fd00:172:30:1::1"
ROUTER_ASN, NODE_ASN = 64513, 64512
VIP4, VIP6 = "198.51.100.7", "2001:db8:7::7"
PEERS: Resource[Untyped] = Resource("tulle.dev", "v1", "bgppeers", "BGPPeer", Untyped, namespaced=False)
POOL = {"addresses": ["198.51.100.0/24", "2001:db8:7::/64"], "default": True}
_HEAD = """
log "{folder}/log" all;
router id 172.30.1.1;
protocol device {{ scan time 1; }}
protocol direct {{ ipv4; ipv6; }}
protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; merge paths yes; }}
protocol kernel {{ ipv6 {{ export where source = RTS_BGP; }}; merge paths yes; }}
"""
_NEIGHBOUR = """
protocol bgp {name} {{
  local {local} as {asn};
  neighbor {remote} as {remote_asn};
  {distance};
  connect retry time 1; connect delay time 1; error wait time 1, 2; error forget time 1; hold time 9;
  {password}
  ipv4 {{ import all; export none; }};
  ipv6 {{ import all; export none; }};
}}
"""


def eventually(condition: Callable[[], Any], what: str, patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        select.select([], [], [], 0.05)


class Router:
    """BIRD in the namespace of the underlay. ``kill`` leaves its kernel routes, as a crash does."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        folder.mkdir()
        self.configure()

    def configure(self, *neighbours: dict[str, Any]) -> None:
        """``remote``, and what differs from a session with a node over IPv4; told to a BIRD that runs."""
        text = _HEAD.format(folder=self.folder)
        for number, each in enumerate(neighbours):
            usual = {"local": ROUTER, "asn": ROUTER_ASN, "remote_asn": NODE_ASN, "password": ""}
            text += _NEIGHBOUR.format(**usual | {"distance": "direct", "name": f"n{number}"} | each)
        (self.folder / "conf").write_text(text)
        if self.pid:
            self.ask("configure")

    def start(self) -> None:
        self._bird("-P", str(self.folder / "pid"), "-s", str(self.folder / "ctl"))
        eventually(lambda: (self.folder / "ctl").exists() and self.pid, "the router's BIRD runs")

    def _bird(self, *flags: str) -> None:
        enter(self.path, "bird", "-c", str(self.folder / "conf"), *flags)

    def ask(self, *command: str) -> str:
        return enter(self.path, "birdc", "-s", str(self.folder / "ctl"), *command).stdout

    @property
    def pid(self) -> int:
        try:
            found = int((self.folder / "pid").read_text())
            os.kill(found, 0)
        except (OSError, ValueError):
            return 0
        return found

    def kill(self) -> None:
        if pid := self.pid:
            end(pid)

    def next_hops(self, prefix: str) -> set[str]:
        """Where the kernel sends packets to it."""
        family = "-6" if ":" in prefix else "-4"
        out = enter(self.path, "ip", family, "-j", "route", "show", prefix, "proto", "bird").stdout
        found: set[str] = set()
        for route in msgspec.json.decode(out or "[]"):
            hops = route.get("nexthops") or [route]
            found |= {hop["gateway"] for hop in hops if "gateway" in hop}
        return found


def end(pid: int) -> None:
    """``kill -9``, and waits until it is gone."""
    descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        assert poller.poll(10_000), f"process {pid} does not end"
    finally:
        os.close(descriptor)


def bird_of(node: Node) -> int:
    """The process ID of the node's BIRD, 0 if none answers."""
    folder = node.folder / "run" / "bgp" / "state"
    try:
        there = os.open(folder, os.O_PATH)
    except OSError:
        return 0
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{there}/bird.ctl")
            found = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return int(struct.unpack("3i", found)[0])
    except OSError:
        return 0
    finally:
        os.close(there)


class World:
    """``apply`` and the like speak to the API as an administrator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cluster = Cluster(folder / "c")
        self._stack = contextlib.ExitStack()
        self.spec = Spec(nodes=2)

    @property
    def nodes(self) -> list[Node]:
        return self._cluster.nodes

    def build(self) -> None:
        self._stack.callback(self._cluster.close)
        self._cluster.build(self.spec)
        for node in self.nodes:
            self._stack.callback(end_bird, node)
        plan = topology(self.spec)
        self.path, self.outside = self._cluster.netns(UNDERLAY), self._cluster.netns("world")
        with netns.entered(self.path):
            listener = socket.create_server((str(plan.api[0]), 0), backlog=512)
        server = ApiServer(self.folder / "c", listener)
        self._stack.callback(server.close)
        server.start(f"--san={plan.api[0]}")
        text = server.kubeconfig.read_text().replace("127.0.0.1", str(plan.api[0]))
        server.kubeconfig.write_text(text)
        self.kubeconfig = server.kubeconfig
        for node in self.nodes:
            self.do(lambda client, node=node: _create_node(client, node))
        self.router = Router(self.path, self.folder / "router")
        self._stack.callback(self.router.kill)

    def close(self) -> None:
        self._stack.close()

    def do(self, work: Callable[[Client], Awaitable[Any]]) -> Any:
        """Runs in the underlay's namespace, to its end."""

        async def run() -> Any:
            async with Client(load_kubeconfig(self.kubeconfig)) as client:
                return await work(client)

        with netns.entered(self.path):
            return asyncio.run(run())

    def define(self) -> None:
        """The CustomResourceDefinitions, and a pool that holds the addresses of ``serve``."""

        async def work(client: Client) -> None:
            for body in crds():
                await client.create(CUSTOM_RESOURCE_DEFINITIONS, body)
            await client.create(
                LOAD_BALANCER_POOLS, _object("tulle.dev/v1", "LoadBalancerPool", "pool", spec=POOL)
            )

        self.do(work)

    def announce_pool(self, *ways: str) -> None:
        patch = {"spec": {"announce": ways}}
        self.do(lambda client: client.patch(LOAD_BALANCER_POOLS, "pool", patch))

    def serve(self) -> None:
        """default/web of type LoadBalancer with an address of each family, and no endpoint yet."""
        spec = {
            "type": "LoadBalancer",
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [{"name": "http", "port": 80}],
        }
        ingress = [{"ip": VIP4, "ipMode": "VIP"}, {"ip": VIP6, "ipMode": "VIP"}]

        async def work(client: Client) -> None:
            await client.create(SERVICES, _object("v1", "Service", "web", spec=spec), "default")
            status = {"status": {"loadBalancer": {"ingress": ingress}}}
            await client.patch(SERVICES, "web", status, "default", subresource="status")

        self.do(work)

    def endpoints(self, *nodes: str, ready: bool = True) -> None:
        """One endpoint of each family on each of the nodes."""

        async def work(client: Client) -> None:
            for family, address in (("IPv4", "10.244.9.{}"), ("IPv6", "fd00:9::{}")):
                name = f"web-{family.lower()}"
                body = _object(
                    "discovery.k8s.io/v1",
                    "EndpointSlice",
                    name,
                    addressType=family,
                    ports=[{"name": "http", "port": 8080, "protocol": "TCP"}],
                    endpoints=[
                        {
                            "addresses": [address.format(number)],
                            "nodeName": node,
                            "conditions": {"ready": ready, "serving": True, "terminating": not ready},
                        }
                        for number, node in enumerate(nodes, 1)
                    ],
                )
                body["metadata"]["labels"] = {"kubernetes.io/service-name": "web"}
                await client.patch(ENDPOINTSLICES, name, body, "default", kind="apply")

        self.do(work)

    def secret(self, **data: str) -> None:
        body = _object("v1", "Secret", "tulle-bgp", stringData=data)
        body["metadata"]["namespace"] = "kube-system"
        self.do(lambda client: client.patch(SECRETS, "tulle-bgp", body, "kube-system", kind="apply"))

    def peer(self, name: str = "router", **spec: Any) -> None:
        """Creates or replaces a BGPPeer with quick timers."""
        usual = {"peerAddress": ROUTER, "peerASN": ROUTER_ASN, "localASN": NODE_ASN, "connectRetry": 1}
        body = _object("tulle.dev/v1", "BGPPeer", name, spec=usual | {"holdTime": 9} | spec)
        self.do(lambda client: client.patch(PEERS, name, body, kind="apply"))

    def forget(self, name: str) -> None:
        self.do(lambda client: client.delete(PEERS, name))

    def status(self, name: str = "router") -> dict[str, Any]:
        async def work(client: Client) -> dict[str, Any]:
            try:
                return dict((await client.get(PEERS, name)).get("status") or {})
            except NotFound:
                return {}

        return dict(self.do(work))

    def established(self, name: str = "router") -> str:
        """The condition's status and message."""
        found = [c for c in self.status(name).get("conditions", ()) if c["type"] == "Established"]
        return f"{found[0]['status']}: {found[0]['message']}" if found else ""

    def events(self, name: str = "router") -> list[str]:
        found = self.do(lambda client: client.list(EVENTS, "default")).items
        return [
            f"{e['type']} {e['reason']} {e['message']}" for e in found if e["involvedObject"]["name"] == name
        ]

    def label(self, node: str, **labels: str | None) -> None:
        patch = {"metadata": {"labels": {k.replace("__", "/"): v for k, v in labels.items()}}}
        self.do(lambda client: client.patch(NODES, node, patch))

    def hear_of(self, node: str, ready: str) -> None:
        """The condition Ready of a Node: True or Unknown."""
        patch = {"status": {"conditions": [{"type": "Ready", "status": ready}]}}
        self.do(lambda client: client.patch(NODES, node, patch, subresource="status", kind="strategic"))


def end_bird(node: Node) -> None:
    """After its agent: that would start another one."""
    node.kill_agent()
    if pid := bird_of(node):
        end(pid)


def _object(version: str, kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields}


async def _create_node(client: Client, node: Node) -> None:
    cidrs = [str(c) for c in node.host.pod_cidrs]
    spec = {"podCIDR": cidrs[0], "podCIDRs": cidrs}
    await client.create(NODES, _object("v1", "Node", node.name, spec=spec))
    addresses = [{"type": "InternalIP", "address": ip} for ip in node.ips]
    await client.patch(NODES, node.name, {"status": {"addresses": addresses}}, subresource="status")
