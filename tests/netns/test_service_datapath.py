"""Pod to Service on the real data path: each row in both modes and both families."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes import Node, Place, Pod
from services import ADDRESSES, UNALLOCATED, Services, ip_of, plan
from tests.ends import PATIENCE, SILENCE
from udp_client import Asking

from tulle.lab.spec import Spec
from tulle.pod_to_service.plan import OnEmpty

ENDS = str(Path(__file__).parents[1] / "ends.py")
TWO = Spec(nodes=2)
Cluster = Callable[..., list[Node]]

pytestmark = [
    pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"]),
    pytest.mark.parametrize("mode", ["socket", "packet"]),
]


class Scene:
    """A node with a client Pod, a backend beside it, one on the other node, and the Service table."""

    def __init__(self, nodes: list[Node], family: int, mode: str) -> None:
        self.here, self.there = nodes
        self.family = family
        self.address = ADDRESSES[family]
        self.client, self.near = self.here.add("client"), self.here.add("near")
        self.far = self.there.add("far")
        self.services = Services(self.here)
        for pod in (self.client, self.near):
            self.services.set_mode(pod, mode)

    def ip(self, place: Pod | Node) -> str:
        return ip_of(place, self.family)

    def serve(self, place: Pod | Node, name: str, protocol: str = "tcp", port: int = 8080) -> tuple[str, int]:
        server = place.popen(sys.executable, ENDS, "serve", name, protocol, str(port))
        place.children.append(server)
        assert server.stdout and server.stdout.readline() == "ready\n"
        return self.ip(place), port

    def ask(
        self, how: str = "tcp", place: Place | None = None, address: str = "", port: int = 80, **more: float
    ) -> list[dict[str, Any]]:
        numbers = map(str, (port, more.get("times", 1), more.get("size", 64), more.get("patience", PATIENCE)))
        done = (place or self.client).run(sys.executable, ENDS, "ask", how, address or self.address, *numbers)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def names(self, *arguments: Any, **named: Any) -> set[str]:
        return {str(a.get("name", a.get("error"))) for a in self.ask(*arguments, **named)}


@pytest.fixture
def scene(shared: Cluster, family: int, mode: str) -> Iterator[Scene]:
    made = Scene(shared(TWO), family, mode)
    try:
        yield made
    finally:
        made.services.close()


HOWS = ("tcp", "udp", "udp-unconnected")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("where", ["near", "far"])
def test_a_service_leads_to_its_backend(scene: Scene, how: str, where: str) -> None:
    """S-20; and the client is shown the Service, the backend the client's own address (S-50)."""
    protocol = how[:3]
    backend = scene.serve(getattr(scene, where), where, protocol)
    scene.services.apply(plan(scene.family, [backend], protocol.upper()))
    [answer] = scene.ask(how)
    assert answer["name"] == where
    assert answer["peer"] == [scene.address, 80]
    assert (answer["seen"], answer["port_kept"]) == (scene.ip(scene.client), True)


@pytest.mark.parametrize("how", HOWS)
def test_every_backend_has_its_turn(scene: Scene, how: str) -> None:
    """S-36."""
    protocol = how[:3]
    backends = [scene.serve(pod, name, protocol) for pod, name in ((scene.near, "near"), (scene.far, "far"))]
    scene.services.apply(plan(scene.family, backends, protocol.upper()))
    assert scene.names(how, times=40) == {"near", "far"}


@pytest.mark.parametrize("how", HOWS)
def test_a_pod_reaches_itself(scene: Scene, how: str) -> None:
    """N-09, S-52."""
    backend = scene.serve(scene.client, "itself", how[:3])
    scene.services.apply(plan(scene.family, [backend], how[:3].upper()))
    [answer] = scene.ask(how)
    assert (answer["name"], answer["peer"]) == ("itself", [scene.address, 80])


@pytest.mark.parametrize("how", HOWS)
def test_the_node_reaches_a_service(scene: Scene, how: str) -> None:
    """S-20; host processes always by the socket."""
    backends = [scene.serve(pod, name, how[:3]) for pod, name in ((scene.near, "near"), (scene.far, "far"))]
    scene.services.apply(plan(scene.family, backends, how[:3].upper()))
    answers = scene.ask(how, place=scene.here, times=40)
    assert {a["name"] for a in answers} == {"near", "far"}
    assert all(a["peer"] == [scene.address, 80] for a in answers)


@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_a_backend_on_the_nodes_own_network(scene: Scene, how: str) -> None:
    """S-37, on this node and on the other one."""
    backends = [scene.serve(node, name, how) for node, name in ((scene.here, "here"), (scene.there, "there"))]
    scene.services.apply(plan(scene.family, backends, how.upper()))
    assert scene.names(how, times=40) == {"here", "there"}


@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_no_endpoint_is_a_refusal(scene: Scene, how: str) -> None:
    """S-40, for Pods and the node."""
    scene.services.apply(plan(scene.family, [], how.upper()))
    for place in (scene.client, scene.here):
        assert scene.names(how, place=place, patience=SILENCE) == {"ConnectionRefusedError"}


@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_a_port_that_the_service_lacks_is_refused(scene: Scene, how: str) -> None:
    """S-29."""
    scene.services.apply(plan(scene.family, [(scene.ip(scene.near), 8080)], how.upper()))
    for place in (scene.client, scene.here):
        assert scene.names(how, place=place, port=81) == {"ConnectionRefusedError"}


def test_an_unallocated_address_is_silent(scene: Scene) -> None:
    """S-29."""
    assert scene.names("tcp", address=UNALLOCATED[scene.family], patience=SILENCE) == {"TimeoutError"}


def test_no_local_endpoint_is_silence(scene: Scene) -> None:
    """S-41."""
    scene.services.apply(plan(scene.family, [], on_empty=OnEmpty.DROP))
    assert scene.names("tcp", patience=SILENCE) == {"TimeoutError"}


def test_a_client_with_affinity_stays(scene: Scene) -> None:
    """S-60; also where it is one of many connections, and until its backend goes."""
    near, far = scene.serve(scene.near, "near"), scene.serve(scene.far, "far")
    scene.services.apply(plan(scene.family, [near, far], affinity=100))
    [name] = scene.names("tcp", times=20)
    other = {"near": far, "far": near}[name]
    scene.services.apply(plan(scene.family, [other], affinity=100))
    assert scene.names("tcp", times=5) == {"far" if name == "near" else "near"}


def test_both_modes_know_one_affinity(scene: Scene, mode: str) -> None:
    """S-60: one table for both readers."""
    near, far = scene.serve(scene.near, "near"), scene.serve(scene.far, "far")
    scene.services.apply(plan(scene.family, [near, far], affinity=100))
    [name] = scene.names("tcp")
    scene.services.set_mode(scene.client, "packet" if mode == "socket" else "socket")
    assert scene.names("tcp", times=10) == {name}


def test_datagrams_larger_than_a_packet(scene: Scene) -> None:
    """S-69, there and back."""
    backend = scene.serve(scene.far, "far", "udp")
    scene.services.apply(plan(scene.family, [backend], "UDP"))
    [answer] = scene.ask("udp", size=9000)
    assert (answer["name"], answer["size"]) == ("far", 9000)


def test_a_stream_larger_than_a_packet(scene: Scene) -> None:
    """Segmentation offload, and all checksums."""
    backend = scene.serve(scene.far, "far")
    scene.services.apply(plan(scene.family, [backend]))
    [answer] = scene.ask("tcp", size=3_000_000)
    assert (answer["name"], answer["size"]) == ("far", 3_000_000)


def test_a_connection_outlives_a_change(scene: Scene) -> None:
    """Whoever is connected stays, whoever comes goes to the new backend."""
    near, far = scene.serve(scene.near, "near", "udp"), scene.serve(scene.far, "far", "udp")
    both = plan(scene.family, [near, far], "UDP")
    scene.services.apply(plan(scene.family, [near], "UDP"))
    asking = Asking(scene.client, scene.address, 80)
    try:
        assert asking.ask() == "near"
        scene.services.apply(both)
        assert [asking.ask() for _ in range(10)] == ["near"] * 10
    finally:
        asking.close()


def test_a_port_may_be_used_without_the_service_in_between(scene: Scene) -> None:
    """A new connection has its answers translated, whoever had the same ends at the backend before."""
    near = scene.serve(scene.near, "near")
    scene.services.apply(plan(scene.family, [near]))
    service, direct = (scene.address, "80"), (near[0], str(near[1]))
    done = scene.client.run(sys.executable, ENDS, "alternate", "40404", *service, *direct, *service)
    assert done.stdout.split() == ["near"] * 3


def test_a_datagram_socket_leaves_a_backend_that_is_gone(scene: Scene, mode: str) -> None:
    """S-65, S-66: ended where it is connected to it, led elsewhere where its packets are translated."""
    near, far = scene.serve(scene.near, "near", "udp"), scene.serve(scene.far, "far", "udp")
    scene.services.apply(plan(scene.family, [near], "UDP"))
    asking = Asking(scene.client, scene.address, 80)
    try:
        assert asking.ask() == "near"
        ended = scene.services.end_stale_sockets(scene.client, plan(scene.family, [far], "UDP"))
        assert ended == ({scene.family: 1} if mode == "socket" else {})
        assert asking.ask() == ("EDESTADDRREQ" if mode == "socket" else "far")
    finally:
        asking.close()


def test_a_client_that_came_too_early_reaches_the_endpoint(scene: Scene) -> None:
    """S-66: with one connected socket all the time."""
    scene.services.apply(plan(scene.family, [], "UDP"))
    asking = Asking(scene.client, scene.address, 80)
    try:
        assert asking.ask() == "ECONNREFUSED"
        far = scene.serve(scene.far, "far", "udp")
        scene.services.apply(plan(scene.family, [far], "UDP"))
        assert asking.ask() == "far"
    finally:
        asking.close()
