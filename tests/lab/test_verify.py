"""Verify holds a real cluster to what Kubernetes promises, and finds what is broken in it, nine times."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from livelab import TULLE, Cluster, cluster, run

from tulle.kernel.bpf_maps import Map, open_map
from tulle.lab.world import probe
from tulle.model.address import to_bytes
from tulle.verify.findings import HOST_PORTS, NODE_PORTS
from tulle.verify.judge import Row
from tulle.verify.run import Options, verify
from tulle.verify.services import ALL, OTHER_PORT
from tulle.verify.statements import STATEMENTS

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Cluster]:
    """Three nodes, so that one can be cut off while the others still reach each other."""
    with cluster(nodes=3) as own:
        yield own


def inside(lab: Cluster, host: str, *command: str, stdin: str = "") -> str:
    """What a command prints in a host's network namespace, or in that of the underlay."""
    return run(["nsenter", f"--net={lab.paths.netns(host)}", *command], stdin=stdin).stdout


def pod_links(lab: Cluster, node: str) -> list[str]:
    """The node's ends of its Pods' links; there must be some."""
    links = [link["ifname"] for link in json.loads(inside(lab, node, "ip", "-j", "link"))]
    found = [name for name in links if name.startswith("tul") and name != "tulle-overlay"]
    assert found
    return found


@contextlib.contextmanager
def filtered(lab: Cluster, host: str, family: str, chain: str) -> Iterator[None]:
    """An nft table with one chain."""
    inside(lab, host, "nft", "-f", "-", stdin=f"table {family} broken {{ chain broken {{ {chain}; }}; }}")
    try:
        yield
    finally:
        inside(lab, host, "nft", "delete", "table", family, "broken")


def tulle_verify(lab: Cluster, *flags: str) -> subprocess.CompletedProcess[str]:
    line = [*TULLE, "verify", "-o", "json", "--kubeconfig", str(lab.paths.kubeconfig), *flags]
    return run(line, check=False)


async def failures(lab: Cluster, once_ready: Callable[[], object]) -> list[Row]:
    """The rows that fail; ``once_ready`` breaks what can only be broken when the Pods are there."""

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "Pods become Ready" and done == total:
            once_ready()

    async with lab.lab.client() as client:
        verdict = await verify(client, Options(check_timeout=2.5, worlds=probe), progress)
    return [row for row in verdict.rows if not row.ok]


def test_the_model_holds(lab: Cluster) -> None:
    result = tulle_verify(lab)
    rows: Rows = json.loads(result.stdout)
    assert [row for row in rows if not row["ok"]] == []
    assert result.returncode == 0
    assert {row["family"] for row in rows} == {"", "IPv4", "IPv6"}
    assert {row["protocol"] for row in rows} == {"", "tcp", "udp", "icmp", "tcp-large", "udp-large"}
    assert {row["id"] for row in rows} == set(STATEMENTS)
    assert len({(r["from"], r["to"]) for r in rows if r["id"].startswith("pod-to-pod")}) == 6 * 5
    spaces = json.loads(lab.kubectl("get", "namespaces", "-o", "json").stdout)["items"]
    mine = [space for space in spaces if space["metadata"]["name"].startswith("tulle-verify")]
    assert all(space["status"]["phase"] == "Terminating" for space in mine)


async def test_finds_a_pod_that_is_cut_off(lab: Cluster) -> None:
    def cut() -> None:
        inside(lab, "node-2", "ip", "link", "set", pod_links(lab, "node-2")[0], "down")

    found = {row.hop for row in await failures(lab, cut)}
    assert any(found == {f"node-2 → {pod}", f"{pod} → node-2"} for pod in ("node-2/a", "node-2/b")), found


async def test_finds_nat(lab: Cluster) -> None:
    """On node-1 the kernel masquerades what it forwards: fragments, as all else takes the short cut."""
    masquerade = 'oifname "eth0" ip saddr 10.244.1.0/24 masquerade'
    with filtered(lab, "node-1", "ip", f"type nat hook postrouting priority 0; {masquerade}"):
        failed = await failures(lab, lambda: None)
    assert {row.hop for row in failed} == {"NAT at node-1: the source becomes 172.30.1.11"}
    assert {(row.id, row.family, row.protocol) for row in failed} == {("pod-to-pod", "IPv4", "udp-large")}


LARGE = "meta length > 1400 drop"
BETWEEN_NODES = [
    pytest.param(
        f'oifname "node-3" {LARGE}; iifname "node-3" {LARGE}',
        "node-3 ↔ all other nodes (only payloads above the MTU)",
        id="an MTU that nobody is told of",
    ),
    pytest.param(
        'iifname "node-2" meta protocol ip6 drop; oifname "node-2" meta protocol ip6 drop',
        "node-2 ↔ all other nodes (only IPv6)",
        id="no IPv6 for one node",
    ),
    pytest.param(
        'iifname "node-1" oifname "node-2" meta l4proto udp drop',
        "node-1 ↔ node-2 (only UDP)",
        id="no UDP from one node to another",
    ),
]


@pytest.mark.parametrize(("rules", "hop"), BETWEEN_NODES)
def test_finds_what_is_wrong_between_nodes(lab: Cluster, rules: str, hop: str) -> None:
    with filtered(lab, "underlay", "bridge", f"type filter hook forward priority 0; {rules}"):
        result = tulle_verify(lab, "--check-timeout", "2.5")
    rows: Rows = json.loads(result.stdout)
    assert {row["hop"] for row in rows if not row["ok"]} == {hop}
    assert result.returncode == 1


def namespace_of_verify(lab: Cluster) -> str:
    """Of the one that runs now; an earlier one may still be on its way out."""
    spaces = json.loads(lab.kubectl("get", "namespaces", "-o", "json").stdout)["items"]
    mine = (space for space in spaces if space["metadata"]["name"].startswith("tulle-verify"))
    return str(next(space["metadata"]["name"] for space in mine if space["status"]["phase"] == "Active"))


def add_nobody(lab: Cluster, namespace: str) -> None:
    """As an endpoint: in a slice that no controller looks after, an address that no Pod has."""
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "by-hand", "labels": {"kubernetes.io/service-name": ALL}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.250"]}],
        "ports": [{"name": "main", "port": 8099, "protocol": "TCP"}],
    }
    lab.kubectl("apply", f"--namespace={namespace}", "-f", "-", stdin=json.dumps(body))


def map_of(lab: Cluster, node: str, name: str) -> Map:
    (pin,) = lab.paths.node(node).bpffs.glob(f"*/maps/{name}")
    return open_map(pin, 4)


def forget_frontend(lab: Cluster, namespace: str) -> None:
    """In the kernel of node-1 only."""
    service = json.loads(lab.kubectl("get", f"--namespace={namespace}", "-o=json", "service", ALL).stdout)
    key = to_bytes(ip_address(service["spec"]["clusterIP"])) + struct.pack("!HBx", OTHER_PORT, 6)
    frontends = map_of(lab, "node-1", "frontends")
    assert frontends.get(key)
    del frontends[key]


async def test_finds_a_service_table_and_a_slice_that_are_wrong(lab: Cluster) -> None:
    """Two things at once, which must not be taken for one another (S-08, S-29)."""

    def breaks() -> None:
        namespace = namespace_of_verify(lab)
        add_nobody(lab, namespace)
        forget_frontend(lab, namespace)

    found = {(row.id, row.target, row.hop) for row in await failures(lab, breaks)}
    table = "the Service table on node-1 differs from the API: it has no all:8080 (only IPv4)"
    nobody = "endpoint 10.244.1.250: no Pod has that address, but the API lists it in EndpointSlice by-hand"
    assert found == {
        ("endpoints", "Service all", "the API: EndpointSlice by-hand"),
        ("service-endpoints", "all:80", nobody),
        *((each, "all:8080", table) for each in ("service", "service-shown", "service-source")),
    }


async def test_finds_a_dns_that_does_not_answer(lab: Cluster) -> None:
    """On node-2, until it is let go on."""
    freezer = lab.paths.cgroup / "node-2" / "dns" / "cgroup.freeze"
    freezer.write_text("1")
    try:
        failed = await failures(lab, lambda: None)
    finally:
        freezer.write_text("0")
    assert {row.source for row in failed} == {"node-2/a", "node-2/b", "node-2/host"}
    assert {row.id for row in failed} == {each for each in STATEMENTS if each.startswith("name-")}
    where = "on node-2: no answer there, though elsewhere; does it run?"
    asked = {f"the DNS at {address} {where}" for address in lab.lab.topology.dns}
    assert {row.hop for row in failed if row.family} == asked
    assert {row.hop for row in failed if not row.family} <= asked | {
        "the cluster DNS on node-2, see what it answers to the probe"
    }


async def test_finds_a_node_that_does_not_know_its_own_address(lab: Cluster) -> None:
    """So that clients find neither node ports nor host ports there, from wherever they come (S-21)."""
    node = next(host for host in lab.lab.topology.nodes if host.name == "node-2")
    key = to_bytes(next(a.ip for a in node.addresses if a.version == 4))
    known = map_of(lab, "node-2", "own_addresses")
    value = known.get(key)
    assert value

    def forget() -> None:
        del known[key]

    try:
        found = {row.hop for row in await failures(lab, forget)}
    finally:
        known[key] = value
    assert found == {
        f"all {what} fail on node-2 (only IPv4), though not elsewhere" for what in (NODE_PORTS, HOST_PORTS)
    }
