"""BGP between real agents and a real router: announcements, failures on both sides, what cannot be right."""

from __future__ import annotations

import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from bgp_world import ROUTER, VIP4, VIP6, World, bird_of, end, enter, eventually


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two nodes without agents, an API without BGPPeers, a router without neighbours."""
    made = World(tmp_path)
    try:
        made.build()
        yield made
    finally:
        made.close()


def neighbours(world: World, **more: str) -> list[dict[str, str]]:
    return [{"remote": node.ips[0], **more} for node in world.nodes]


def start(world: World, **spec: object) -> None:
    """Agents, a BGPPeer for all of them, and the router; returns when the sessions are up."""
    world.define()
    world.router.configure(*neighbours(world))
    world.router.start()
    world.peer(**spec)
    for node in world.nodes:
        node.start_agent()
    eventually(lambda: world.established().startswith("True"), "the sessions are up", 40)


def both(world: World) -> set[str]:
    return {node.ips[0] for node in world.nodes}


def test_routes_lead_to_the_nodes_that_have_endpoints(world: World) -> None:
    """The agents run before there are BGPPeers at all."""
    one, two = world.nodes
    for node in world.nodes:
        node.start_agent()
    world.serve()
    world.router.configure(*neighbours(world))
    world.router.start()
    world.define()
    world.peer(communities=["65000:100", "65000:1:2"])
    for node in world.nodes:
        for cidr, hop in zip(node.host.pod_cidrs, node.ips, strict=True):
            eventually(lambda c=cidr, h=hop: world.router.next_hops(str(c)) == {h}, f"{cidr} by {hop}", 60)
    assert world.router.next_hops(VIP4) == set(), "no endpoint, no announcement"
    world.endpoints(one.name, two.name)
    eventually(lambda: world.router.next_hops(VIP4) == {one.ips[0], two.ips[0]}, "ECMP, IPv4")
    eventually(lambda: world.router.next_hops(VIP6) == {one.ips[1], two.ips[1]}, "ECMP, IPv6")
    shown = world.router.ask("show", "route", "all", VIP4)
    assert "BGP.community: (65000,100)" in shown and "BGP.large_community: (65000, 1, 2)" in shown
    world.endpoints(two.name)
    eventually(lambda: world.router.next_hops(VIP4) == {two.ips[0]}, "the endpoint on node 1 is gone")
    eventually(lambda: world.router.next_hops(VIP6) == {two.ips[1]}, "the endpoint on node 1 is gone")
    world.endpoints(two.name, ready=False)
    world.label(two.name, **{"node.kubernetes.io__exclude-from-external-load-balancers": ""})
    eventually(lambda: world.router.next_hops(VIP4) == set(), "node 2 is excluded")
    assert world.router.next_hops(str(two.host.pod_cidrs[0])) == {two.ips[0]}, "but for its Pods"
    world.label(two.name, **{"node.kubernetes.io__exclude-from-external-load-balancers": None})
    eventually(lambda: world.router.next_hops(VIP4) == {two.ips[0]}, "it ends, but it still serves")
    pod = one.add("a")
    for ip in pod.ips:
        enter(world.outside, "ping", "-c", "1", "-W", "2", ip)
    assert "router" not in one.log().replace("BGPPeer router: the session is up", "")


def test_bird_has_few_rights_and_no_more_ports(world: World) -> None:
    start(world)
    [node, _] = world.nodes
    status = Path(f"/proc/{bird_of(node)}/status").read_text()
    assert re.search(r"CapEff:\t0+400\n", status) and re.search(r"CapBnd:\t0+400\n", status), status
    assert "\nUid:\t0" not in status and "NoNewPrivs:\t1" in status
    assert stat.S_IMODE((node.folder / "run/bgp/bird.conf").stat().st_mode) == 0o600
    listening = node.run("ss", "-Hltun").stdout
    assert [line.split()[4] for line in listening.splitlines() if "bird" in line or ":179" in line] == [
        f"{node.ips[0]}:179"
    ], listening
    assert "proto bird" not in node.run("ip", "route").stdout
    world.forget("router")
    for node in world.nodes:
        eventually(lambda n=node: not bird_of(n), "without a BGPPeer there is no BIRD")
        eventually(lambda n=node: not (n.folder / "run/bgp").exists(), "nor its files")


def test_a_router_that_starts_anew_gets_its_routes_back(world: World) -> None:
    start(world)
    world.serve()
    one, two = world.nodes
    world.endpoints(one.name, two.name)
    eventually(lambda: world.router.next_hops(VIP4) == both(world), "ECMP")
    birds = {bird_of(node) for node in world.nodes}
    for _ in range(2):
        world.router.kill()
        eventually(lambda: world.established().startswith("False"), "it is told")
        enter(world.path, "ip", "route", "flush", "proto", "bird")
        world.router.start()
        eventually(lambda: world.router.next_hops(VIP4) == both(world), "routes come back")
        eventually(lambda: world.established().startswith("True"), "it is told")
    assert {bird_of(node) for node in world.nodes} == birds
    assert all(node.agent and node.agent.poll() is None for node in world.nodes)


def test_packets_go_on_when_bird_or_the_agent_dies(world: World) -> None:
    """RFC 4724: the router keeps the routes of a BIRD that comes back; one that stays has nothing to do."""
    start(world)
    [node, _] = world.nodes
    cidr = str(node.host.pod_cidrs[0])
    eventually(lambda: world.router.next_hops(cidr) == {node.ips[0]}, "its Pods are known")
    watch = RouteWatch(world)
    first = bird_of(node)
    for number in (signal.SIGKILL, signal.SIGTERM):
        node.kill_agent(number)
        assert bird_of(node) == first
        node.start_agent()
        eventually(lambda: node.log().count("in the kernel") > 1, "the new agent knows the Services")
    assert "Reconfigured" in bird_log(node)
    assert bird_of(node) == first
    world.serve()
    world.endpoints(node.name)
    eventually(lambda: world.router.next_hops(VIP4) == {node.ips[0]}, "the new agent speaks to the old BIRD")
    end(first)
    eventually(lambda: bird_of(node) not in (0, first), "the agent starts another one")
    eventually(lambda: "Graceful restart done" in bird_log(node), "it is back")
    eventually(lambda: world.established().startswith("True"), "it is back")
    assert world.router.next_hops(cidr) == {node.ips[0]} == world.router.next_hops(VIP4)
    assert not [line for line in watch.deleted() if cidr in line]


def bird_log(node: object) -> str:
    return str((node.folder / "run/bgp/state/bird.log").read_text())  # type: ignore[attr-defined]


class RouteWatch:
    """What the router's kernel routes lose from now on."""

    def __init__(self, world: World) -> None:
        self._file = world.folder / "monitor"
        self._world = world
        place = world.nodes[0].__class__.__mro__[1](world.path)
        self._process = place.popen("ip", "monitor", "route")
        world.nodes[0].children.append(self._process)

    def deleted(self) -> list[str]:
        self._process.terminate()
        assert self._process.stdout
        return [line for line in self._process.stdout.read().splitlines() if line.startswith("Deleted")]


def test_passwords(world: World) -> None:
    """RFC 2385. The one in the Secret must be the router's."""
    world.define()
    world.router.configure(*neighbours(world, password='password "right one";'))
    world.router.start()
    one, _ = world.nodes
    one.start_agent()
    world.peer(passwordSecret={"key": "router"})
    eventually(lambda: "there is no Secret kube-system/tulle-bgp" in world.established(), "it is missing")
    world.secret(wrong="wrong one", broken="right one\n", right="right one")
    world.peer(passwordSecret={"key": "nothing"})
    eventually(lambda: "has no 'nothing'" in world.established(), "the key is missing")
    world.peer(passwordSecret={"key": "broken"})
    eventually(lambda: "ends in a line break" in world.established(), "it cannot be one")
    assert not bird_of(one)
    world.peer(passwordSecret={"key": "wrong"})
    eventually(lambda: "another password" in world.established(), "the router is silent")
    world.peer(passwordSecret={"key": "right"})
    eventually(lambda: world.established().startswith("True"), "it is the router's")
    assert "right one" not in "".join(world.events()) + one.log() + bird_log(one)


def test_peers_that_cannot_be_right_disturb_none_else(world: World) -> None:
    start(world)
    one, two = world.nodes
    selector = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}
    world.label(one.name, **{"kubernetes.io__hostname": one.name})
    mine = {"nodeSelector": selector}
    wrong = {
        "a-refused": ({"peerAddress": two.ips[0], **mine}, "does not answer"),
        "b-far": ({"peerAddress": "203.0.113.10", **mine}, "ebgpMultihop"),
        "c-source": ({"peerAddress": "172.30.1.9", "sourceAddress": "172.30.1.99", **mine}, "no address of node"),
        "d-address": ({"peerAddress": "router.example", **mine}, "is not an IP address"),
        "e-double": ({"peerAddress": ROUTER, **mine}, ""),
        "f-multihop": ({"peerAddress": "203.0.113.11", "peerASN": 64512, "ebgpMultihop": 2, **mine}, "iBGP"),
        "s-double": ({"peerAddress": ROUTER, **mine}, "BGPPeer router's on this node already"),
    }
    del wrong["e-double"]
    for name, (spec, _) in wrong.items():
        world.peer(name, **spec)
    for name, (_, words) in wrong.items():
        eventually(lambda n=name, w=words: w in world.established(n), f"{name}: {words}")
        assert any(words in event and event.startswith("Warning") for event in world.events(name)), name
        assert set(world.status(name)["sessions"]) == {one.name}
    assert world.established().startswith("True")
    assert world.router.next_hops(str(one.host.pod_cidrs[0])) == {one.ips[0]}
    world.peer(peerASN=64599)
    eventually(lambda: "another number than peerASN" in world.established(), "the router is another one")
    world.peer()
    eventually(lambda: world.established().startswith("True"), "it is mended")
