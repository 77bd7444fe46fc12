"""``tulle dns`` follows a real API: new names at once, changes, Events; it outlives the API (D-29)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_node import TULLE, V4, DnsNode, eventually

from tulle.kernel import netns
from tulle.kube.client import Client
from tulle.kube.config import load_kubeconfig
from tulle.kube.resources import CONFIGMAPS, EVENTS, Resource

SERVICES: Resource[dict[str, Any]] = Resource("", "v1", "services", "Service", dict)
SLICES: Resource[dict[str, Any]] = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", dict)


class Api:
    """``tulle apiserver`` in the node's namespace."""

    def __init__(self, node: DnsNode) -> None:
        self._node = node
        self.kubeconfig = node.folder / "kubeconfig"
        self.kubeconfig.unlink()
        command = ["nsenter", f"--net={node.path}", str(TULLE), "apiserver", "--listen=127.0.0.1:6443"]
        command += [f"--state-dir={node.folder / 'api'}", f"--kubeconfig-out={self.kubeconfig}"]
        self._log = (node.folder / "api.log").open("ab")
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        log = node.folder / "api.log"
        eventually(lambda: "listening on" in log.read_text(), "the API listens")

    def do(self, work: Callable[[Client], Awaitable[Any]]) -> Any:
        """Runs in the node's namespace, to its end."""

        async def run() -> Any:
            async with Client(load_kubeconfig(self.kubeconfig)) as client:
                return await work(client)

        with netns.entered(self._node.path):
            return asyncio.run(run())

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self._log.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DnsNode]:
    made = DnsNode(tmp_path / "node")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def api(node: DnsNode) -> Iterator[Api]:
    made = Api(node)
    try:
        yield made
    finally:
        made.close()


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 80}], **spec},
    }


class Asker:
    """One UDP socket in the node's namespace."""

    def __init__(self, node: DnsNode) -> None:
        with netns.entered(node.path):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((V4, 53))
        self._socket.settimeout(5)

    def rcode(self, name: str) -> int:
        wire = b"".join(bytes((len(p),)) + p.encode() for p in name.split(".")) + b"\0"
        self._socket.send(struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + wire + b"\0\1\0\1")
        return self._socket.recv(4096)[3] & 0xF

    def close(self) -> None:
        self._socket.close()


def test_a_service_is_resolvable_once_it_is_created(node: DnsNode, api: Api) -> None:
    """How soon, the benchmarks tell."""
    node.start()
    eventually(lambda: "in step with the API" in node.log(), "it has synced")
    asker = Asker(node)

    async def create(client: Client) -> None:
        for number in range(20):
            name = f"s{number}"
            await client.create(SERVICES, service(name), "default")
            eventually(lambda n=name: not asker.rcode(f"{n}.default.svc.cluster.local"), "it has its name")

    try:
        api.do(create)
    finally:
        asker.close()


def test_names_follow_their_objects_and_outlive_the_api(node: DnsNode, api: Api) -> None:
    node.start()
    name = "db.default.svc.cluster.local"

    def short(*words: str) -> str:
        return node.dig(f"@{V4}", "+short", *words)

    part = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "db-mine",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "db"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.5"], "hostname": "db-0", "conditions": {"ready": True}}],
        "ports": [{"name": "pg", "port": 5432, "protocol": "TCP"}],
    }
    api.do(lambda client: client.create(SERVICES, service("db", clusterIP="None"), "default"))
    api.do(lambda client: client.create(SLICES, part, "default"))
    eventually(lambda: short(name) == "10.244.1.5", "a slice made by hand, without the label (D-05)")
    assert short(f"_pg._tcp.{name}", "SRV") == f"0 100 5432 db-0.{name}."
    assert short("-x", "10.244.1.5") == f"db-0.{name}."
    ready = {"endpoints": [{"addresses": ["10.244.1.5"], "conditions": {"ready": False}}]}
    api.do(lambda client: client.patch(SLICES, "db-mine", ready, "default"))
    eventually(lambda: "NXDOMAIN" in node.dig(f"@{V4}", name), "none is ready (D-05)")
    api.do(lambda client: client.delete(SERVICES, "db", "default"))
    api.do(lambda client: client.create(SERVICES, service("kept"), "default"))
    eventually(lambda: short("kept.default.svc.cluster.local"), "the new Service has an address")
    snapshot = node.folder / "state" / "dns.jsonl"
    eventually(lambda: snapshot.exists() and b'"kept"' in snapshot.read_bytes(), "the snapshot has it")
    os.kill(api.process.pid, signal.SIGKILL)
    api.process.wait(10)
    before = short("kept.default.svc.cluster.local")
    assert before
    new = node.start()
    assert short("kept.default.svc.cluster.local") == before, "also after a restart without the API"
    assert new.poll() is None


def test_d26_a_config_map_counts_and_outlives_the_api(node: DnsNode, api: Api) -> None:
    server = node.start()
    corefile = ".:53 {\n  hosts {\n    192.0.2.7 fixed.example\n  }\n  forward . 127.0.0.1\n}\n"
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "coredns", "namespace": "kube-system"},
        "data": {"Corefile": corefile},
    }
    api.do(lambda client: client.create(CONFIGMAPS, config_map, "kube-system"))
    eventually(lambda: node.dig(f"@{V4}", "+short", "fixed.example") == "192.0.2.7", "hosts count")
    os.kill(api.process.pid, signal.SIGKILL)
    api.process.wait(10)
    server.terminate()
    assert server.wait(15) == 0
    node.start()
    assert node.dig(f"@{V4}", "+short", "fixed.example") == "192.0.2.7"


def test_d26_a_config_map_that_cannot_be_read_is_told_in_an_event(node: DnsNode, api: Api) -> None:
    node.start()
    broken = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "data": {"stubDomains": "{not json"},
    }
    api.do(lambda client: client.create(CONFIGMAPS, broken, "kube-system"))

    def told() -> bool:
        listed = api.do(lambda client: client.list(EVENTS, "kube-system"))
        events = [item.value for item in listed.entries]
        return any("stubDomains" in event.get("message", "") for event in events)

    eventually(told, "an Event says what is wrong")
    assert "coredns_reload_failed_total 1" in node.get("/metrics")[1]
