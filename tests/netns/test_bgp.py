"""BGP between real agents and a real router: announcements, failures on both sides, what cannot be right."""

from __future__ import annotations

import json
import re
import shutil
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bgp_world import ROUTER, ROUTER6, VIP4, VIP6, World, bird_of, end, enter, eventually
from nodes import NOBODY, Node, Place
from status_of import run_status

from tulle.errors import ApiError

BIRD = shutil.which("bird", path="/usr/sbin:/usr/bin")


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


def start(world: World) -> None:
    """Agents, a BGPPeer for all of them, and the router; returns when the sessions are up."""
    world.define()
    world.router.configure(*neighbours(world))
    world.router.start()
    world.peer()
    for node in world.nodes:
        node.start_agent()
    every = f"True: {len(world.nodes)} of {len(world.nodes)} nodes"
    eventually(lambda: world.established() == every, "all sessions are up")


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
            eventually(lambda c=cidr, h=hop: world.router.next_hops(str(c)) == {h}, f"{cidr} by {hop}")
    assert world.router.next_hops(VIP4) == set(), "no endpoint, no announcement"
    world.endpoints(one.name, two.name)
    eventually(lambda: world.router.next_hops(VIP4) == {one.ips[0], two.ips[0]}, "ECMP, IPv4")
    eventually(lambda: world.router.next_hops(VIP6) == {one.ips[1], two.ips[1]}, "ECMP, IPv6")
    shown = world.router.ask("show", "route", "all", f"{VIP4}/32")
    assert "BGP.community: (65000,100)" in shown and "BGP.large_community: (65000, 1, 2)" in shown
    world.endpoints(two.name)
    eventually(lambda: world.router.next_hops(VIP4) == {two.ips[0]}, "the endpoint on node 1 is gone")
    eventually(lambda: world.router.next_hops(VIP6) == {two.ips[1]}, "the endpoint on node 1 is gone")
    world.announce_pool("L2")
    eventually(lambda: world.router.next_hops(VIP4) == set(), "the pool is not for BGP")
    world.announce_pool("L2", "BGP")
    eventually(lambda: world.router.next_hops(VIP4) == {two.ips[0]}, "it is again")
    world.endpoints(two.name, ready=False)
    world.label(two.name, **{"node.kubernetes.io__exclude-from-external-load-balancers": ""})
    eventually(lambda: world.router.next_hops(VIP4) == set(), "node 2 is excluded")
    assert world.router.next_hops(str(two.host.pod_cidrs[0])) == {two.ips[0]}, "but for its Pods"
    world.label(two.name, **{"node.kubernetes.io__exclude-from-external-load-balancers": None})
    eventually(lambda: world.router.next_hops(VIP4) == {two.ips[0]}, "it ends, but it still serves")
    pod = one.add("a")
    for ip in pod.ips:
        enter(world.outside, "ping", "-c", "1", "-W", "2", ip)
    assert "ERROR" not in one.log() and "Traceback" not in one.log(), one.log()


def test_bird_has_few_rights_and_no_more_ports(world: World) -> None:
    start(world)
    node = world.nodes[0]
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


def test_what_a_silent_node_said_is_unknown_until_it_speaks_again(world: World) -> None:
    """By the other node's agent; and once: where only the kubelet is silent, the agent's word counts."""
    start(world)
    one = world.nodes[0]
    one.kill_agent()
    world.hear_of(one.name, "Unknown")
    eventually(lambda: world.established().startswith("Unknown"), "the condition is unknown")
    assert world.status()["sessions"][one.name]["state"] == "Unknown"
    assert "the node is not heard of; it last said: Established" in world.established()
    one.start_agent()
    eventually(lambda: world.established() == "True: 2 of 2 nodes", "it speaks again")
    world.peer(communities=["65000:7"])
    cidr = str(world.nodes[1].host.pod_cidrs[0])
    eventually(
        lambda: "(65000,7)" in world.router.ask("show", "route", "all", cidr), "the other one has looked"
    )
    assert world.established() == "True: 2 of 2 nodes"


def test_packets_go_on_when_bird_or_the_agent_dies(world: World) -> None:
    """RFC 4724: the router keeps the routes of a BIRD that comes back; one that stays has nothing to do."""
    start(world)
    node = world.nodes[0]
    cidr = str(node.host.pod_cidrs[0])
    eventually(lambda: world.router.next_hops(cidr) == {node.ips[0]}, "its Pods are known")
    watch = RouteWatch(world)
    first = bird_of(node)
    for times, number in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
        node.kill_agent(number)
        assert bird_of(node) == first
        node.start_agent()
        eventually(lambda n=times: bird_log(node).count("Reconfigured") >= n, "the new agent goes on with it")
    assert bird_of(node) == first
    world.serve()
    world.endpoints(node.name)
    eventually(lambda: world.router.next_hops(VIP4) == {node.ips[0]}, "the new agent speaks to the old BIRD")
    end(first)
    eventually(lambda: bird_of(node) not in (0, first), "the agent starts another one")
    eventually(lambda: "Graceful restart done" in bird_log(node), "it is back")
    eventually(lambda: world.established().startswith("True"), "it is back")
    assert world.router.next_hops(cidr) == {node.ips[0]} == world.router.next_hops(VIP4)
    seen = watch.end()
    assert any(VIP4 in line for line in seen), "it watches"
    assert not [line for line in seen if line.startswith("Deleted") and (cidr in line or VIP4 in line)]


def bird_log(node: Node) -> str:
    return (node.folder / "run/bgp/state/bird.log").read_text()


class RouteWatch:
    """What the router's kernel does with its routes from now on."""

    def __init__(self, world: World) -> None:
        self._process = Place(world.path).popen("ip", "monitor", "route")
        world.nodes[0].children.append(self._process)

    def end(self) -> list[str]:
        self._process.terminate()
        assert self._process.stdout
        return self._process.stdout.read().splitlines()


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
        "a-refused": ({"peerAddress": two.ips[0], "peerPort": 9, **mine}, "Connection refused"),
        "b-far": ({"peerAddress": "203.0.113.10", **mine}, "ebgpMultihop"),
        "c-source": (
            {"peerAddress": "172.30.1.9", "sourceAddress": "172.30.1.99", **mine},
            "no address of node",
        ),
        "d-address": ({"peerAddress": "router.example", **mine}, "is not an IP address"),
        "f-multihop": ({"peerAddress": "203.0.113.11", "peerASN": 64512, "ebgpMultihop": 2, **mine}, "iBGP"),
        "s-double": ({"peerAddress": ROUTER, **mine}, "BGPPeer router's on this node already"),
    }
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


def test_the_api_refuses_what_its_schema_tells(world: World) -> None:
    """And shows the rest in columns."""
    world.define()
    for wrong in ({"peerASN": 0}, {"localASN": 1 << 32}, {"announce": ["x"]}, {"communities": ["1:2)); #"]}):
        with pytest.raises(ApiError, match=next(iter(wrong))):
            world.peer(**wrong)
    world.peer("rack-1")
    columns = ("kubectl", f"--kubeconfig={world.kubeconfig}", "get", "bgppeers")
    shown = enter(world.path, "env", f"KUBECACHEDIR={world.folder}/cache", *columns).stdout.splitlines()
    assert shown[0].split() == ["NAME", "PEER", "ASN", "LOCAL", "ESTABLISHED", "AGE"]
    assert shown[1].split()[:4] == ["rack-1", ROUTER, "64513", "64512"]


def test_a_router_of_the_same_as_over_ipv6(world: World) -> None:
    """IBGP: IPv4 prefixes over a session of IPv6, and the other way round."""
    peers = [{"remote": node.ips[1], "distance": "multihop", "asn": "64512"} for node in world.nodes]
    world.define()
    world.router.configure(*({"local": ROUTER6, **each} for each in peers))
    world.router.start()
    world.peer(peerAddress=ROUTER6, peerASN=64512, gracefulRestart=False, announce=["PodCIDRs"])
    world.serve()
    world.endpoints(*(node.name for node in world.nodes))
    for node in world.nodes:
        node.start_agent()
    for node in world.nodes:
        for cidr, hop in zip(node.host.pod_cidrs, node.ips, strict=True):
            eventually(lambda c=cidr, h=hop: world.router.next_hops(str(c)) == {h}, f"{cidr} by {hop}")
    assert world.router.next_hops(VIP4) == world.router.next_hops(VIP6) == set(), "only what is asked for"


def test_status_needs_neither_agent_nor_api(world: World) -> None:
    start(world)
    node = world.nodes[0]
    for cidr, hop in zip(node.host.pod_cidrs, node.ips, strict=True):
        eventually(lambda c=cidr, h=hop: world.router.next_hops(str(c)) == {h}, "it is announced")
    node.kill_agent()
    (node.folder.parent / "kubeconfig").write_text(NOBODY)
    [session] = json.loads(run_status(node, "-o", "json").stdout)["bgp"]
    assert session.pop("since").endswith("Z")
    assert session == {
        "peer": "router",
        "address": ROUTER,
        "asn": "64513",
        "localAsn": "64512",
        "state": "Established",
        "announced": 2,
        "message": "",
    }
    shown = run_status(node).stdout
    assert re.search(rf"router +{ROUTER} +64512 to 64513 +Established ", shown), shown
    world.router.kill()
    eventually(lambda: "Socket: Connection" in run_status(node).stdout, "it says why")


@pytest.mark.parametrize("how", ["services: false", "uninstall"])
def test_who_does_not_want_it_has_nothing_left(world: World, how: str) -> None:
    start(world)
    node = world.nodes[0]
    cidr = str(node.host.pod_cidrs[0])
    eventually(lambda: world.router.next_hops(cidr) == {node.ips[0]}, "it is announced")
    node.kill_agent()
    if how == "uninstall":
        folders = {"state": "state", "run": "run", "cni-conf": "net.d", "cni-bin": "bin"}
        flags = [f"--{name}-dir={node.folder / path}" for name, path in folders.items()]
        node.run(sys.executable, "-m", "tulle", "uninstall", *flags, f"--bpffs={node.bpffs}")
    else:
        node.start_agent("--no-services")
    eventually(lambda: not bird_of(node) and not (node.folder / "run/bgp").exists(), "BIRD has ended")
    eventually(lambda: world.router.next_hops(cidr) == set(), "the router was told, and does not wait")


def test_a_node_without_bird_says_what_to_install(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the program is, the agent sees a file that cannot be run."""
    hidden = tmp_path / "python"
    line = f'mount --bind /dev/null {BIRD} && exec {sys.executable} "$@"'
    hidden.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{line}' python \"$@\"\n")
    hidden.chmod(0o755)
    world.define()
    world.peer()
    node = world.nodes[0]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(hidden))
        node.start_agent()
    words = "bird is missing: needed for BGP; apt-get install bird2"
    eventually(lambda: words in world.established(), "the status says so")
    assert any(words in event for event in world.events())
    assert node.call("STATUS")["exit"] == 0, "Pods can be connected"
