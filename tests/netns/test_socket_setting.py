"""Whose sockets are given Services, as the agent's settings say it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
from nodes import Node

from tulle.kernel import netns
from tulle.lab.spec import Spec
from tulle.model.address import to_bytes
from tulle.pod_to_pod.pinned import Pinned
from tulle.pod_to_service.entries import Entries
from tulle.pod_to_service.plan import PROTOCOLS, Frontend

Cluster = Callable[..., list[Node]]


def kind_of(node: Node, cookie: int) -> str:
    pinned = Pinned(node.bpffs)
    raw = pinned.open("clients", len(pinned.contract.pack("client"))).get(cookie.to_bytes(8, "little"))
    kinds = pinned.contract.enums["client_kind"]
    return kinds(pinned.contract.unpack("client", raw).kind).name if raw else "none"


def frontends(node: Node) -> list[Frontend]:
    pinned = Pinned(node.bpffs)
    entries = Entries(pinned.contract)
    table = pinned.open("frontends", pinned.contract.layout("lead").size)
    return [entries.read_frontend(key) for key in table.keys(entries.frontend_size)]


@pytest.mark.parametrize(
    ("flags", "pods", "processes"),
    [
        ((), "CLIENT_POD", "CLIENT_NODE"),
        (("--no-socket-services",), "CLIENT_POD_PACKETS", "CLIENT_NODE"),
    ],
    ids=["by default", "sockets of Pods left alone"],
)
def test_the_nodes_setting(cluster: Cluster, flags: tuple[str, ...], pods: str, processes: str) -> None:
    [node] = cluster(Spec(nodes=1), *flags)
    pod = node.add("a")
    cookie = netns.cookie(pod.path)
    assert kind_of(node, cookie) == pods
    assert kind_of(node, netns.cookie(node.path)) == processes
    node.call("DEL", pod)
    assert kind_of(node, cookie) == "none"


def test_without_services_sockets_are_led_by_host_ports_alone(cluster: Cluster) -> None:
    """Which are no Services, and go on without them."""
    [node] = cluster(Spec(nodes=1), "--no-services")
    assert "connect4" in Pinned(node.bpffs).socket_programs()
    assert frontends(node) == []
    node.add("web", {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"})
    node.kill_agent()
    node.start_agent("--no-services")
    assert frontends(node) == [Frontend(to_bytes(ip_address("127.0.0.1")), 8080, PROTOCOLS["TCP"])]


def test_without_a_cgroup_pods_are_connected_all_the_same(cluster: Cluster, tmp_path: Path) -> None:
    """And the log says what is missing, and what goes on without it."""
    [node] = cluster(Spec(nodes=1), start=False)
    node.group = tmp_path
    node.start_agent()
    assert node.call("STATUS")["exit"] == 0
    assert "no Services at sockets" in node.log()
    assert "Pods have Services per packet" in node.log()
