"""The agent's own pages on a node without an API: where they are, what they say, who cannot hinder them."""

from __future__ import annotations

import json
import re
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from nodes import Node
from tests.asking import ask, connect, is_closed
from tests.exposition import read, value

from tulle.kernel import netns
from tulle.pod_to_pod.datapath import Pinned

Cluster = Callable[..., list[Node]]
HEALTH, METRICS = 10256, 10249
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
LOCAL = ("127.0.0.1", "::1")


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, what
        select.select([], [], [], 0.02)


def listening(node: Node) -> set[str]:
    """Local addresses and ports of TCP sockets that listen, as ss shows them."""
    lines = node.run("ss", "-H", "-ltn").stdout.splitlines()
    return {line.split()[3] for line in lines}


def listens(node: Node) -> None:
    """Waits for both pages: Pods can be connected a moment sooner."""
    usual = {f"127.0.0.1:{METRICS}", f"*:{HEALTH}"}
    eventually(lambda: listening(node) == usual, f"{usual} listen")


@pytest.fixture
def node(shared: Cluster) -> Node:
    [node] = shared()
    listens(node)
    return node


def test_s63_health_on_all_addresses_of_both_families(node: Node) -> None:
    for address in (*node.ips, *LOCAL):
        for path in ("/healthz", "/livez"):
            answer = ask(node.path, address, HEALTH, path)
            assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.json["healthy"] is True and "lastUpdated" in answer.json
            assert ("nodeEligible" in answer.json) is (path == "/healthz")
    assert ask(node.path, "127.0.0.1", HEALTH, "/").status == 404


def test_s64_metrics_and_the_like_on_localhost_only(node: Node) -> None:
    for address in node.ips:
        assert is_closed(node.path, address, METRICS)
    assert ask(node.path, "127.0.0.1", METRICS, "/proxyMode").body == "ebpf"
    assert ask(node.path, "127.0.0.1", METRICS, "/healthz").body == "ok"
    config = ask(node.path, "127.0.0.1", METRICS, "/configz").json["tulle.dev/agent"]
    assert (config["nodeName"], config["metricsBindAddress"]) == (node.name, "127.0.0.1:10249")
    flags = ask(node.path, "127.0.0.1", METRICS, "/flagz").body.splitlines()
    assert f"node-name={node.name}" in flags and "overlay-port=4789" in flags
    status = ask(node.path, "127.0.0.1", METRICS, "/statusz").body
    assert "Version: " in status and "/metrics" in status


def test_s71_what_the_kernel_counts(node: Node) -> None:
    one, two = node.add("one"), node.add("two")
    before = ask(node.path, "127.0.0.1", METRICS, "/metrics")
    assert before.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    for target in two.ips:
        one.run("ping", "-c", "2", "-i", "0.1", target)
    one.run("ip", "address", "add", "10.99.99.99/32", "dev", "eth0")
    one.run("ping", "-c", "1", "-W", "0.1", "-I", "10.99.99.99", two.ips[0], check=False)

    def counted() -> bool:
        after = ask(node.path, "127.0.0.1", METRICS, "/metrics").body
        went, dropped = (
            value(after, "tulle_packets_total", hook="from_pod", reason=reason)
            - value(before.body, "tulle_packets_total", hook="from_pod", reason=reason)
            for reason in ("local_pod", "drop_spoofed_source")
        )
        return went >= 8 and dropped >= 1

    eventually(counted, "the pings and the forgery are counted")
    text = ask(node.path, "127.0.0.1", METRICS, "/metrics").body
    families = read(text)
    keys = list(Pinned(node.bpffs).open("endpoints", 12).keys(16))
    assert value(text, "tulle_map_entries", map="endpoints") == len(keys) >= 4
    assert value(text, "tulle_map_max_entries", map="endpoints") == 4096
    assert value(text, "tulle_bytes_total", hook="from_pod", reason="local_pod") > 8 * 84
    assert 10 < value(text, "process_open_fds") < 500
    assert [labels for (_, labels) in families["tulle_build_info"].samples]
    for name in ("sync_proxy_rules_duration_seconds", "network_programming_duration_seconds"):
        assert families[f"kubeproxy_{name}"].kind == "histogram"
    ask(node.path, "127.0.0.1", HEALTH, "/livez")
    assert value(text, "kubeproxy_proxy_healthz_total", code="200") >= 0


def test_clients_that_are_slow_or_many(node: Node) -> None:
    """Those that were there first are cut off, and neither other clients nor the CNI wait for them."""
    before = value(ask(node.path, "127.0.0.1", METRICS, "/metrics").body, "process_open_fds")
    clients = [connect(node.path, "127.0.0.1", HEALTH) for _ in range(300)]
    try:
        assert ask(node.path, "127.0.0.1", HEALTH, "/healthz").status == 200
        assert value(ask(node.path, "127.0.0.1", METRICS, "/metrics").body, "process_open_fds") < before + 140
        assert node.call("STATUS")["exit"] == 0
        assert clients[0].recv(1) == b""
    finally:
        for client in clients:
            client.close()


def test_a_port_that_is_taken_is_told_and_tried_again(cluster: Cluster) -> None:
    """As by a kube-proxy; everything else goes on."""
    [node] = cluster(start=False)
    with netns.entered(node.path):
        taken = socket.create_server(("", METRICS))
    try:
        node.start_agent()
        eventually(lambda: not is_closed(node.path, node.ips[0], HEALTH), "the other page is there")
        assert ask(node.path, node.ips[0], HEALTH, "/healthz").status == 200
        eventually(lambda: "metricsBindAddress: cannot listen at 127.0.0.1:10249" in node.log(), "it is told")
    finally:
        taken.close()
    eventually(lambda: not is_closed(node.path, "127.0.0.1", METRICS), "it is tried again")


def test_no_port_is_left(cluster: Cluster) -> None:
    [node] = cluster()
    listens(node)
    node.kill_agent(signal.SIGTERM)
    assert listening(node) == set()


@pytest.mark.parametrize(
    ("health", "metrics", "places"),
    [
        ("none", "none", set()),
        ("127.0.0.1:9001", "[::1]:9002", {"127.0.0.1:9001", "[::1]:9002"}),
        ("127.0.0.1:9001", "127.0.0.1:9001", {"127.0.0.1:9001"}),
    ],
)
def test_other_places(cluster: Cluster, health: str, metrics: str, places: set[str]) -> None:
    [node] = cluster(start=False)
    node.start_agent(f"--healthz-bind-address={health}", f"--metrics-bind-address={metrics}")
    eventually(lambda: listening(node) == places, f"{listening(node)} is {places}")
    if health == metrics and places:
        assert ask(node.path, "127.0.0.1", 9001, "/healthz").json["healthy"] is True
        assert json.loads(ask(node.path, "127.0.0.1", 9001, "/configz").body)


def test_every_metric_is_documented(node: Node) -> None:
    """In docs/metrics.md, with its type and its labels."""
    ask(node.path, "127.0.0.1", HEALTH, "/livez")
    families = read(ask(node.path, "127.0.0.1", METRICS, "/metrics").body)
    rows = [line.split("|") for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    documented = {name.strip(" `"): row for _, name, *row in rows if "_" in name}
    assert documented.keys() == families.keys()
    for name, family in families.items():
        kind, labels, *_ = documented[name]
        assert kind.strip() == family.kind, name
        for _, found in family.samples:
            assert {label for label, _ in found} - {"le"} == set(re.findall(r"`(\w+)`", labels)), name
