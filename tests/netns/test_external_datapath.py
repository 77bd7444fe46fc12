"""External to Service on the real data path: *world* is the client, and two nodes share the Service."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from nodes import Node, Place, Pod
from services import Services, ip_of
from tests.ends import PATIENCE, SILENCE

from tulle.lab.spec import Spec
from tulle.model.address import to_bytes
from tulle.pod_to_pod.pinned import Pinned
from tulle.pod_to_service.plan import (
    ANY_ADDRESS,
    PROTOCOLS,
    Backend,
    Choice,
    Frontend,
    Kind,
    Lead,
    OnEmpty,
    PortPlan,
    Scope,
    Traffic,
)

ENDS = str(Path(__file__).parents[1] / "ends.py")
NODE_PORT, PORT = 30080, 8080
VIPS = {4: "198.51.100.7", 6: "2001:db8:7::7"}
WORLD = {4: "203.0.113.10", 6: "2001:db8:ffff::10"}
Cluster = Callable[..., list[Node]]

pytestmark = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])


class Scene:
    """Two nodes that have the same Service, a Pod on each, and *world*."""

    def __init__(self, nodes: list[Node], family: int) -> None:
        self.here, self.there = nodes
        self.family = family
        self.world = Place(self.here.folder.parent / "netns" / "world")
        self.near, self.far = self.here.add("near"), self.there.add("far")
        self.services = [Services(node) for node in nodes]

    def close(self) -> None:
        self.world.close()
        for each in self.services:
            each.close()

    def ip(self, place: Pod | Node) -> str:
        return ip_of(place, self.family)

    def serve(self, place: Pod | Node, name: str, protocol: str = "tcp") -> Backend:
        server = place.popen(sys.executable, ENDS, "serve", name, protocol, str(PORT))
        place.children.append(server)
        assert server.stdout and server.stdout.readline() == "ready\n"
        return Backend(to_bytes(ip_address(self.ip(place))), PORT)

    def plan(
        self,
        *backends: Backend,
        protocol: str = "tcp",
        outside: Traffic = Traffic.CLUSTER,
        local: Choice | None = None,
        affinity: int = 0,
        vip: str = "",
    ) -> PortPlan:
        """By a node port or, if one is given, by an address of its own."""
        number = PROTOCOLS[protocol[:3].upper()]
        frontend = Frontend(ANY_ADDRESS[self.family], NODE_PORT, number, Scope.NODE_PORT)
        lead = Lead(frontend, Kind.NODE_PORT, Traffic.CLUSTER, outside)
        if vip:
            lead = Lead(Frontend(to_bytes(ip_address(vip)), 80, number), Kind.LOAD_BALANCER, *lead[2:4])
        found = tuple(sorted(backends))
        choice = Choice(found, found if protocol == "udp" else ())
        return PortPlan(("default", "web"), "web", number, self.family, affinity, (lead,), choice, local)

    def route(self, vip: str, node: Node) -> None:
        """From now on the underlay's router leads the address to that node."""
        router = Place(self.here.folder.parent / "netns" / "underlay")
        router.run("ip", "route", "replace", vip, "via", self.ip(node))

    def converse(self, vip: str) -> subprocess.Popen[str]:
        line = ["nsenter", f"--net={self.world.path}", sys.executable, ENDS, "converse", vip, "80"]
        client = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.world.children.append(client)
        assert client.stdout and client.stdout.readline() == "ready\n"
        return client

    def converse_with_both(self, vip: str) -> tuple[list[subprocess.Popen[str]], list[str]]:
        """Eight connections, or more until each Pod has one, and whom each is with: a hash is chance."""
        clients, names = list[subprocess.Popen[str]](), list[str]()
        while len(clients) < 8 or set(names) != {"near", "far"}:
            clients.append(self.converse(vip))
            names.append(say(clients[-1]))
            assert len(clients) < 64, names
        return clients, names

    def apply(self, *plans: PortPlan) -> None:
        for each in self.services:
            each.apply(*plans)

    def ask(
        self,
        how: str,
        place: Place | None = None,
        to: str = "",
        port: int = NODE_PORT,
        times: int = 1,
        size: int = 64,
        patience: float = PATIENCE,
    ) -> list[dict[str, Any]]:
        address = to or self.ip(self.here)
        numbers = map(str, (port, times, size, patience))
        done = (place or self.world).run(sys.executable, ENDS, "ask", how, address, *numbers)
        return [json.loads(line) for line in done.stdout.splitlines()]


def made(nodes: list[Node], family: int) -> Iterator[Scene]:
    scene = Scene(nodes, family)
    try:
        yield scene
    finally:
        scene.close()


@pytest.fixture(params=["native", "overlay"])
def routing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scene(shared: Cluster, family: int, routing: str) -> Iterator[Scene]:
    yield from made(shared(Spec(nodes=2), f"--routing={routing}"), family)


@pytest.fixture
def straight(shared: Cluster, family: int) -> Iterator[Scene]:
    """``externalTraffic: dsr``."""
    yield from made(shared(Spec(nodes=2), "--external-traffic=dsr"), family)


@pytest.fixture
def hidden(shared: Cluster, family: int) -> Iterator[Scene]:
    """``externalTraffic: snat``."""
    yield from made(shared(Spec(nodes=2), "--external-traffic=snat"), family)


HOWS = ("tcp", "udp", "udp-unconnected")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("where", ["near", "far"])
def test_the_pod_sees_the_client(scene: Scene, how: str, where: str) -> None:
    """S-21, S-43: by one node, to a Pod of it or of the other one."""
    scene.apply(scene.plan(scene.serve(getattr(scene, where), where, how[:3]), protocol=how[:3]))
    for answer in scene.ask(how, times=3):
        assert (answer["name"], answer["seen"], answer["port_kept"]) == (where, WORLD[scene.family], True)
        assert answer["peer"] == [scene.ip(scene.here), NODE_PORT]


@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_every_node_and_every_backend(scene: Scene, how: str) -> None:
    """S-36."""
    backends = [scene.serve(pod, name, how) for pod, name in ((scene.near, "near"), (scene.far, "far"))]
    scene.apply(scene.plan(*backends, protocol=how))
    for node in (scene.here, scene.there):
        answers = scene.ask(how, to=scene.ip(node), times=40)
        assert {a.get("name", a.get("error")) for a in answers} == {"near", "far"}, answers
        assert {a["seen"] for a in answers} == {WORLD[scene.family]}


@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_much_at_once(scene: Scene, how: str) -> None:
    """S-69: 9,000 bytes are fragments in UDP, and many segments in TCP; both ways by the other node."""
    scene.apply(scene.plan(scene.serve(scene.far, "far", how), protocol=how))
    for size in (1400, 1472, 9000):
        [answer] = scene.ask(how, size=size)
        assert answer.get("size") == size, (size, answer)


@pytest.mark.parametrize("how", ["tcp", "udp"])
@pytest.mark.parametrize("where", ["here", "there"])
def test_a_backend_on_a_nodes_own_network(scene: Scene, how: str, where: str) -> None:
    """S-37."""
    scene.apply(scene.plan(scene.serve(getattr(scene, where), where, how), protocol=how))
    [answer] = scene.ask(how)
    assert (answer["name"], answer["seen"]) == (where, WORLD[scene.family])
    assert answer["peer"] == [scene.ip(scene.here), NODE_PORT]


def node_reached_from_itself(scene: Scene, how: str) -> None:
    """A node's own network is the backend, and a Pod of it and the node itself come by the other node."""
    backend = scene.serve(scene.there, "there", how[:3])
    scene.apply(scene.plan(backend, protocol=how[:3]))
    for client in (scene.there.add("client"), scene.there):
        [answer] = scene.ask(how, place=client)
        assert (answer.get("name"), answer.get("seen")) == ("there", scene.ip(scene.here)), answer
        assert answer["peer"] == [scene.ip(scene.here), NODE_PORT]


@pytest.mark.parametrize("how", HOWS)
def test_a_node_is_reached_from_itself_by_another_node(scene: Scene, how: str) -> None:
    """S-37, S-47: the stack sees the node of entry: it would take its own Pod for a forgery."""
    node_reached_from_itself(scene, how)


def test_a_node_is_reached_from_itself_with_answers_straight_from_nodes(straight: Scene) -> None:
    node_reached_from_itself(straight, "tcp")


def test_one_source_port_to_both_nodes(scene: Scene) -> None:
    """Two connections that differ in the node alone stay two for the Pod."""
    scene.apply(scene.plan(scene.serve(scene.far, "far")))
    ends = [end for node in (scene.here, scene.there) * 3 for end in (scene.ip(node), str(NODE_PORT))]
    done = scene.world.run(sys.executable, ENDS, "alternate", "45678", *ends)
    assert done.stdout.split() == ["far"] * 6


@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_a_pod_of_another_node_is_outside(scene: Scene, how: str) -> None:
    """S-47: what comes over the wire has no short circuit, and may be handed to the client's own node."""
    client = scene.there.add("client")
    scene.apply(scene.plan(scene.serve(scene.far, "far", how), protocol=how))
    [answer] = scene.ask(how, place=client)
    assert (answer["name"], answer["seen"]) == ("far", scene.ip(client))
    nobody_here = Choice((), (), OnEmpty.DROP)
    scene.apply(
        scene.plan(
            scene.serve(scene.near, "near", how), protocol=how, outside=Traffic.LOCAL, local=nobody_here
        )
    )
    [answer] = scene.ask(how, place=client, patience=SILENCE)
    assert answer["error"] == "TimeoutError"


@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_a_pod_reaches_itself_by_another_node(scene: Scene, how: str) -> None:
    """N-09, S-52."""
    scene.apply(scene.plan(scene.serve(scene.far, "far", how), protocol=how))
    [answer] = scene.ask(how, place=scene.far)
    assert answer["name"] == "far"


@pytest.mark.parametrize("how", HOWS)
def test_whoever_is_on_the_node_is_inside(scene: Scene, how: str) -> None:
    """S-45, S-46: short circuits; the node itself by its own address, too."""
    nobody_here = Choice((), (), OnEmpty.DROP)
    client = scene.here.add("client")
    backend = scene.serve(scene.far, "far", how[:3])
    scene.apply(scene.plan(backend, protocol=how[:3], outside=Traffic.LOCAL, local=nobody_here))
    for mode in ("socket", "packet"):
        scene.services[0].set_mode(client, mode)
        [answer] = scene.ask(how, place=client)
        assert (answer["name"], answer["seen"]) == ("far", scene.ip(client))
        assert answer["peer"] == [scene.ip(scene.here), NODE_PORT]
    [answer] = scene.ask(how, place=scene.here)
    assert (answer["name"], answer["peer"]) == ("far", [scene.ip(scene.here), NODE_PORT])
    [answer] = scene.ask(how, patience=SILENCE)
    assert answer["error"] == "TimeoutError"


@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_without_endpoints(scene: Scene, how: str) -> None:
    """S-40 and S-42: refused, or dropped where there are some elsewhere."""
    scene.apply(scene.plan(protocol=how))
    [answer] = scene.ask(how)
    assert answer["error"] == "ConnectionRefusedError"
    scene.apply(scene.plan(protocol=how, outside=Traffic.LOCAL, local=Choice((), (), OnEmpty.DROP)))
    [answer] = scene.ask(how, patience=SILENCE)
    assert answer["error"] == "TimeoutError"


def test_affinity_across_nodes(scene: Scene) -> None:
    """S-60: whichever node a client enters by."""
    backends = [scene.serve(pod, name) for pod, name in ((scene.near, "near"), (scene.far, "far"))]
    scene.apply(scene.plan(*backends, affinity=10800))
    answers = scene.ask("tcp", times=10) + scene.ask("tcp", to=scene.ip(scene.there), times=10)
    assert len({a.get("name") for a in answers}) == 1, answers


def test_a_flow_survives_when_its_address_moves(scene: Scene) -> None:
    """A load balancer's address moves from node to node amid connections, which keep their backends."""
    names = ((scene.near, "near"), (scene.far, "far"))
    vip = VIPS[scene.family]
    scene.apply(scene.plan(*[scene.serve(pod, name, "tcp-lines") for pod, name in names], vip=vip))
    scene.route(vip, scene.here)
    clients, first = scene.converse_with_both(vip)
    for node in (scene.there, scene.here) * 2:
        scene.route(vip, node)
        assert [say(client) for client in clients] == first


def say(client: subprocess.Popen[str]) -> str:
    assert client.stdin and client.stdout
    client.stdin.write("\n")
    client.stdin.flush()
    return client.stdout.readline().strip()


def counted(node: Node, hook: str, reason: str) -> int:
    counts = Pinned(node.bpffs).counters()
    return next((c.packets for c in counts if (c.hook, c.reason) == (hook, reason)), 0)


@pytest.mark.parametrize("how", HOWS)
def test_answers_straight_from_the_pods_node(straight: Scene, how: str) -> None:
    scene = straight
    backend = scene.serve(scene.far, "far", how[:3])
    scene.apply(scene.plan(backend, protocol=how[:3]))
    before = counted(scene.here, "from_uplink", "answered"), counted(scene.there, "from_pod", "answered")
    [answer] = scene.ask(how)
    assert (answer["name"], answer["seen"], answer["port_kept"]) == ("far", WORLD[scene.family], True)
    assert answer["peer"] == [scene.ip(scene.here), NODE_PORT]
    assert counted(scene.here, "from_uplink", "answered") == before[0]
    assert counted(scene.there, "from_pod", "answered") > before[1]


@pytest.mark.parametrize("how", HOWS)
def test_a_node_in_the_clients_place(hidden: Scene, how: str) -> None:
    """S-43 as kube-proxy does it: only for a Pod of another node; nothing is handed over."""
    scene = hidden
    backends = [scene.serve(pod, name, how[:3]) for pod, name in ((scene.near, "near"), (scene.far, "far"))]
    scene.apply(scene.plan(*backends, protocol=how[:3]))
    answers = scene.ask(how, times=30)
    assert {(a["name"], a["seen"]) for a in answers} == {
        ("near", WORLD[scene.family]),
        ("far", scene.ip(scene.here)),
    }
    assert all(a["peer"] == [scene.ip(scene.here), NODE_PORT] for a in answers)
    assert not scene.here.run("ip", "link", "show", "tulle-overlay", check=False).stdout


@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_a_backend_outside_the_cluster(hidden: Scene, how: str) -> None:
    """An endpoint may have any address, the client's, too: it sees the node, which alone it can answer."""
    scene = hidden
    server = scene.world.popen(sys.executable, ENDS, "serve", "outside", how, str(PORT))
    scene.world.children.append(server)
    assert server.stdout and server.stdout.readline() == "ready\n"
    scene.apply(scene.plan(Backend(to_bytes(ip_address(WORLD[scene.family])), PORT), protocol=how))
    client = scene.there.add("client")
    for place in (client, scene.there, scene.world):
        seen = scene.ip(scene.here)
        [answer] = scene.ask(how, place=place)
        assert (answer["name"], answer["seen"]) == ("outside", seen)
        assert answer["peer"] == [scene.ip(scene.here), NODE_PORT]
