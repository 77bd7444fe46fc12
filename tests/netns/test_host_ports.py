"""Ports of a node that lead to Pods, on the real data path, by real CNI calls (N-10)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from nodes import Node, Place, Pod
from services import ip_of
from status_of import shown, status
from udp_client import Asking

from tulle.lab import cgroup
from tulle.lab.spec import Spec, topology
from tulle.model.address import to_bytes
from tulle.pod_to_pod.pinned import Pinned
from tulle.pod_to_service.entries import Entries
from tulle.pod_to_service.plan import PROTOCOLS, Frontend

ENDS = str(Path(__file__).parents[1] / "ends.py")
TWO = Spec(nodes=2)
WORLD = topology(TWO).world
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
ANY = {4: "0.0.0.0", 6: "::"}
Cluster = Callable[..., list[Node]]
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
HOWS = pytest.mark.parametrize("how", ["tcp", "udp", "udp-unconnected"])


def mapping(
    host_port: int = 8080, container_port: int = 80, host_ip: str = "", protocol: str = "tcp"
) -> dict[str, Any]:
    return {
        "hostPort": host_port,
        "containerPort": container_port,
        "hostIP": host_ip,
        "protocol": protocol,
    }


def serve(pod: Pod, name: str, protocol: str = "tcp", port: int = 80) -> None:
    server = pod.popen(sys.executable, ENDS, "serve", name, protocol, str(port))
    pod.children.append(server)
    assert server.stdout and server.stdout.readline() == "ready\n"


def ask(place: Place, address: str, port: int = 8080, how: str = "tcp") -> dict[str, Any]:
    done = place.run(sys.executable, ENDS, "ask", how, address, str(port), "1", "64")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def failed(place: Place, address: str, port: int = 8080) -> bool:
    return "error" in ask(place, address, port)


def world_of(node: Node) -> Place:
    """The host outside the cluster, in no node's cgroup."""
    return Place(node.path.parent / WORLD.name)


def world_ip(family: int) -> str:
    return next(str(a.ip) for a in WORLD.addresses if a.version == family)


MODES = {"socket": (), "packet": ("--no-socket-services",)}


@pytest.fixture(params=MODES)
def two(request: pytest.FixtureRequest, shared: Cluster) -> list[Node]:
    """Two nodes whose Pods are led at their sockets, or packet by packet."""
    return shared(TWO, *MODES[request.param])


@FAMILIES
@HOWS
@pytest.mark.parametrize("host_ip", ["", "any", "one"])
def test_everybody_on_the_node_reaches_the_pod(two: list[Node], family: int, how: str, host_ip: str) -> None:
    """Processes of the node, Pods beside it, the Pod itself; each is seen with its own address."""
    here, _ = two
    node_ip = ip_of(here, family)
    wanted = {"": "", "any": ANY[family], "one": node_ip}[host_ip]
    web, client = here.add("web", mapping(host_ip=wanted, protocol=how[:3])), here.add("client")
    serve(web, "web", how[:3])
    for place in (here, client, web):
        answer = ask(place, node_ip, how=how)
        assert answer["name"] == "web"
        assert answer["peer"] == [node_ip, 8080]
    assert ask(client, node_ip, how=how)["seen"] == ip_of(client, family)
    assert ask(here, node_ip, how=how)["seen"] == node_ip


@FAMILIES
@HOWS
@pytest.mark.parametrize("host_ip", ["", "any", "loopback"])
def test_the_nodes_loopback(shared: Cluster, family: int, how: str, host_ip: str) -> None:
    """``hostIP`` 127.0.0.1 is in Kubernetes' conformance tests; with none, loopback is among all."""
    here, _ = shared(TWO)
    wanted = {"": "", "any": ANY[family], "loopback": LOOPBACK[family]}[host_ip]
    web, client = here.add("web", mapping(host_ip=wanted, protocol=how[:3])), here.add("client")
    serve(web, "web", how[:3])
    answer = ask(here, LOOPBACK[family], how=how)
    assert (answer["name"], answer["peer"]) == ("web", [LOOPBACK[family], 8080])
    assert "error" in ask(client, LOOPBACK[family], how=how), "a Pod's loopback is its own"
    reached = "error" not in ask(here, ip_of(here, family), how=how)
    assert reached is (host_ip != "loopback")


@FAMILIES
@HOWS
@pytest.mark.parametrize("host_ip", ["", "one"])
def test_everybody_elsewhere_reaches_the_pod(two: list[Node], family: int, how: str, host_ip: str) -> None:
    """The outside, another node, and its Pods; the Pod sees the client's own address and its own port."""
    here, there = two
    node_ip = ip_of(here, family)
    wanted = node_ip if host_ip else ""
    web, far = here.add("web", mapping(host_ip=wanted, protocol=how[:3])), there.add("far")
    serve(web, "web", how[:3])
    expected = {world_ip(family): world_of(here), ip_of(there, family): there, ip_of(far, family): far}
    for own, place in expected.items():
        answer = ask(place, node_ip, how=how)
        assert (answer["name"], answer["peer"], answer["seen"]) == ("web", [node_ip, 8080], own)


@FAMILIES
def test_from_outside_a_loopback_port_is_not_reached(shared: Cluster, family: int) -> None:
    here, there = shared(TWO)
    serve(here.add("web", mapping(host_ip=LOOPBACK[family])), "web")
    for place in (world_of(here), there):
        assert failed(place, ip_of(here, family))


@FAMILIES
def test_two_pods_share_a_port_on_different_addresses(shared: Cluster, family: int) -> None:
    here, _ = shared(TWO)
    one = here.add("one", mapping(host_ip=ip_of(here, family)))
    other = here.add("other", mapping(host_ip=LOOPBACK[family]), mapping(protocol="udp"))
    serve(one, "one")
    serve(other, "other")
    serve(other, "datagrams", "udp")
    assert ask(here, ip_of(here, family))["name"] == "one"
    assert ask(here, LOOPBACK[family])["name"] == "other"
    assert ask(here, ip_of(here, family), how="udp")["name"] == "datagrams"


def test_the_families_of_a_port_can_be_two_pods(shared: Cluster) -> None:
    here, _ = shared(TWO)
    for family in (4, 6):
        serve(here.add(f"v{family}", mapping(host_ip=ANY[family])), f"v{family}")
    for family in (4, 6):
        assert ask(here, ip_of(here, family))["name"] == f"v{family}"


def test_another_port_of_the_address_is_the_nodes(shared: Cluster) -> None:
    """Nothing but the port is taken from the node."""
    here, _ = shared(TWO)
    here.add("web", mapping(host_ip=ip_of(here, 4)))
    server = here.popen(sys.executable, ENDS, "serve", "node", "tcp", "8081")
    here.children.append(server)
    assert server.stdout and server.stdout.readline() == "ready\n"
    assert ask(here, ip_of(here, 4), 8081)["name"] == "node"
    assert ask(here.add("client"), ip_of(here, 4), 8081)["name"] == "node"


@pytest.mark.parametrize(
    ("first", "second"),
    [("", ""), ("", "one"), ("one", "0.0.0.0"), ("127.0.0.1", ""), ("one", "one")],
)
def test_a_conflict_names_the_other_pod_and_leaves_nothing(shared: Cluster, first: str, second: str) -> None:
    here, _ = shared(TWO)
    named = {"one": ip_of(here, 4)}
    web = here.add("web", mapping(host_ip=named.get(first, first)))
    serve(web, "web")
    before = here.run("ip", "link").stdout
    late = here.make_pod("late")
    ports = [mapping(7), mapping(host_ip=named.get(second, second), container_port=81)]
    answer = here.call("ADD", late, runtimeConfig={"portMappings": ports})
    assert answer["code"] == 103
    assert "default/node-1-web" in answer["msg"] and ":8080/TCP" in answer["msg"], answer
    assert "runtimeConfig.portMappings[1].hostPort" in answer["msg"]
    assert here.run("ip", "link").stdout == before
    assert len(list((here.folder / "state").glob("boots/*/*.json"))) == 1
    assert ask(here, named.get(first, first) or LOOPBACK[4])["name"] == "web"
    serve(here.add("next", mapping(7)), "next")
    assert ask(here, LOOPBACK[4], 7)["name"] == "next", "the ports of the failed ADD are free"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (mapping(host_ip="nowhere"), "runtimeConfig.portMappings[1].hostIP"),
        (mapping(protocol="icmp"), "runtimeConfig.portMappings[1].protocol"),
        (mapping(container_port=0), "runtimeConfig.portMappings[1].containerPort"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(shared: Cluster, wrong: dict[str, Any], field: str) -> None:
    here, _ = shared(TWO)
    answer = here.call("ADD", here.make_pod("web"), runtimeConfig={"portMappings": [mapping(9), wrong]})
    assert answer["code"] == 7 and field in answer["msg"], answer
    assert not list((here.folder / "state").glob("boots/*/*.json"))


def test_of_calls_at_once_one_has_the_port(shared: Cluster) -> None:
    here, _ = shared(TWO)
    pods = [here.make_pod(f"p{number}") for number in range(6)]
    with ThreadPoolExecutor(len(pods)) as pool:
        more = {"runtimeConfig": {"portMappings": [mapping()]}}
        answers = list(pool.map(lambda pod: here.call("ADD", pod, **more), pods))
    assert sorted(answer["exit"] for answer in answers) == [0, 1, 1, 1, 1, 1]
    winner = next(pod for pod, answer in zip(pods, answers, strict=True) if not answer["exit"])
    for answer in answers:
        assert not answer["exit"] or f"default/{winner.container_id}" in answer["msg"]
    serve(winner, "winner")
    assert ask(here, LOOPBACK[4])["name"] == "winner"


def test_del_frees_the_port(shared: Cluster) -> None:
    here, _ = shared(TWO)
    for name in ("one", "two"):
        pod = here.add(name, mapping())
        serve(pod, name)
        assert ask(here, LOOPBACK[4])["name"] == name
        assert here.call("DEL", pod, runtimeConfig={"portMappings": [mapping(host_ip="?")]}) == {"exit": 0}
        assert failed(here, LOOPBACK[4])


def test_gc_frees_the_port(shared: Cluster) -> None:
    here, _ = shared(TWO)
    here.add("one", mapping())
    assert here.call("GC", **{"cni.dev/valid-attachments": []}) == {"exit": 0}
    serve(here.add("two", mapping()), "two")
    assert ask(here, LOOPBACK[4])["name"] == "two"


def test_an_address_that_comes_later(shared: Cluster) -> None:
    """A hostIP that is none of the node's is served once it is one."""
    here, _ = shared(TWO)
    serve(here.add("web", mapping(host_ip="172.31.9.9")), "web")
    here.run("ip", "address", "add", "172.31.9.9/32", "dev", "lo")
    try:
        assert ask(here, "172.31.9.9")["name"] == "web"
    finally:
        here.run("ip", "address", "del", "172.31.9.9/32", "dev", "lo")


@pytest.mark.parametrize("flags", [(), ("--no-services",)], ids=["with Services", "without"])
def test_ports_outlive_the_agent(cluster: Cluster, flags: tuple[str, ...]) -> None:
    """They are served while no agent is there, the next one knows whose they are, and DEL frees them."""
    [node] = cluster(Spec(nodes=1), *flags)
    web = node.add("web", mapping(), mapping(53, 53, protocol="udp"))
    serve(web, "web")
    serve(web, "names", "udp", 53)

    def reached() -> bool:
        both = ask(node, LOOPBACK[6])["name"], ask(node, ip_of(node, 4), 53, "udp")["name"]
        return both == ("web", "names")

    assert reached()
    node.kill_agent()
    assert reached()
    node.start_agent(*flags)
    assert reached()
    assert node.call("CHECK", web, prevResult=web.result)["exit"] == 0
    late = node.make_pod("late")
    answer = node.call("ADD", late, runtimeConfig={"portMappings": [mapping()]})
    assert "default/node-1-web" in answer["msg"]
    node.kill_agent()
    assert node.call("DEL", web) == {"exit": 0}, "queued, as no agent is there"
    node.start_agent(*flags)
    late.result = node.call("ADD", late, wait=True, runtimeConfig={"portMappings": [mapping()]})
    serve(late, "late")
    assert ask(node, LOOPBACK[4])["name"] == "late"


def test_no_connection_fails_while_agents_come_and_go(cluster: Cluster) -> None:
    """From outside, from the node by loopback, and from a Pod."""
    [node] = cluster(Spec(nodes=1))
    serve(node.add("web", mapping()), "web")
    ways = [(world_of(node), ip_of(node, 4)), (node, LOOPBACK[6]), (node.add("client"), ip_of(node, 6))]
    loads = [Load(place, address) for place, address in ways]
    try:
        for number in (signal.SIGKILL, signal.SIGTERM):
            node.kill_agent(number)
            node.start_agent()
            serve(node.add(f"more-{number}", mapping(9000 + number)), "more")
        results = [load.end() for load in loads]
    finally:
        for load in loads:
            load.close()
    for result in results:
        assert result["failures"] == [] and list(result["answered"]) == ["web"]


class Load:
    """A client that connects again and again."""

    def __init__(self, place: Place, address: str) -> None:
        line = ["nsenter", f"--net={place.path}", *cgroup.JOIN, str(place.group)]
        self._process = subprocess.Popen(
            [*line, sys.executable, ENDS, "load", address, "8080"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout and self._process.stdout.readline() == "begun\n"

    def end(self) -> dict[str, Any]:
        """How often it was answered by whom, and every failure."""
        result: dict[str, Any] = json.loads(self._process.communicate("\n", 30)[0])
        return result

    def close(self) -> None:
        with self._process as process:
            process.kill()


def test_status_shows_them(cluster: Cluster) -> None:
    """Beside the Services, of which they are none; without an agent, too."""
    [node] = cluster(Spec(nodes=1))
    web = node.add("web", mapping(), mapping(53, 53, LOOPBACK[4], "udp"))
    serve(web, "web")
    ask(node, ip_of(node, 4))
    node.kill_agent()
    found = shown(node, whole=True)
    assert [(p["hostPorts"], p["pod"], p["leadsTo"], p["hits"]) for p in found["hostPorts"]] == [
        (["[::]:8080/TCP (host port)"], "default/node-1-web", [f"[{ip_of(web, 6)}]:80"], 0),
        (["0.0.0.0:8080/TCP (host port)"], "default/node-1-web", [f"{ip_of(web, 4)}:80"], 1),
        (["127.0.0.1:53/UDP"], "default/node-1-web", [f"{ip_of(web, 4)}:53"], 0),
    ]
    assert found["services"]["ports"] == []
    assert "0.0.0.0:8080/TCP (host port)" in status(node)


def test_check_names_an_entry_that_is_missing(cluster: Cluster) -> None:
    [node] = cluster(Spec(nodes=1))
    web = node.add("web", mapping(host_ip=LOOPBACK[4]))
    assert node.call("CHECK", web, prevResult=web.result)["exit"] == 0
    pinned = Pinned(node.bpffs)
    frontend = Frontend(to_bytes(ip_address(LOOPBACK[4])), 8080, PROTOCOLS["TCP"])
    pinned.open("frontends", pinned.contract.layout("lead").size).discard(
        Entries(pinned.contract).frontend(frontend)
    )
    answer = node.call("CHECK", web, prevResult=web.result)
    assert answer["exit"] == 1
    assert "127.0.0.1:8080/TCP" in answer["msg"], answer


@FAMILIES
@pytest.mark.parametrize("mode", ["node", "socket", "packet", "world"])
def test_datagrams_leave_a_pod_that_is_gone(shared: Cluster, family: int, mode: str) -> None:
    """S-66: a connected socket is ended, so that its owner connects anew; packets are led to the next Pod."""
    here, _ = shared(TWO, *MODES.get(mode, ()))
    client = {"node": here, "world": world_of(here)}.get(mode) or here.add("client")
    first = here.add("first", mapping(protocol="udp"))
    serve(first, "first", "udp")
    asking = Asking(client, ip_of(here, family), 8080)
    try:
        assert asking.ask() == "first"
        here.call("DEL", first)
        second = here.add("second", mapping(protocol="udp"))
        serve(second, "second", "udp")
        if mode in ("packet", "world"):
            assert asking.ask_until("second") == "second"
        else:
            assert asking.ask_until("ECONNABORTED", "EDESTADDRREQ") in ("ECONNABORTED", "EDESTADDRREQ")
    finally:
        asking.close()
    assert ask(client, ip_of(here, family), how="udp")["name"] == "second"
