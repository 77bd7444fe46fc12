"""LoadBalancer IPs on a real bridge: real agents and a real API, and a host that asks all the time.

Whatever is done to the node that answers, another one does within two seconds, and never two at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from asker import Asker, Heard
from nodes import Cluster, Node
from status_of import run_status

from tulle.external_to_service.announce.leases import (
    LABEL,
    NAMESPACE,
    SECONDS,
    beat_name,
    grant_name,
    node_of,
)
from tulle.external_to_service.crds import crds
from tulle.kernel import netns
from tulle.kube.client import Client
from tulle.kube.config import load_kubeconfig
from tulle.kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    LEASES,
    LOAD_BALANCER_POOLS,
    NODES,
    SERVICES,
)
from tulle.lab import underlay
from tulle.lab.spec import Spec, topology
from tulle.model.address import Address

SPEC = Spec(nodes=3)
VIPS: list[Address] = [ip_address("172.30.1.200"), ip_address("fd00:172:30:1::200")]
POOL = {"addresses": ["172.30.1.200-172.30.1.220", "fd00:172:30:1::200/123"]}
LIMIT = 2.0
"""Seconds within which another node must answer, not counting what the machine itself lets it wait."""


class Moment(NamedTuple):
    """On the monotonic clock, and what ``Scene.waited`` was then."""

    time: float
    waited: dict[Path, float]


class Scene:
    """The nodes, the API beside them, and who asks."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.cluster = Cluster(folder / "cluster")
        stack.callback(self.cluster.close)
        self.cluster.build(SPEC)
        self.nodes = {node.name: node for node in self.cluster.nodes}
        self.below = self.cluster.netns(underlay.UNDERLAY)
        self._folder, self._log = folder, (folder / "api.log").open("ab")
        stack.callback(self._log.close)
        stack.callback(self.end_api)
        self.start_api()
        self.asker = Asker(folder / "asker", self.below, self.cluster.nodes[0].host.bridge, VIPS)
        stack.callback(self.asker.close)
        self.do(self._make)
        self.cluster.start_agents()
        self.macs = {mac_of(node): node.name for node in self.cluster.nodes}
        self.asker.start()

    def start_api(self) -> None:
        address = topology(SPEC).api[0]
        out = self.cluster.folder / "kubeconfig"
        command = ["nsenter", f"--net={self.below}", sys.executable, "-m", "tulle", "apiserver"]
        command += [
            f"--listen={address}:6443",
            f"--state-dir={self._folder / 'api'}",
            f"--kubeconfig-out={out}",
        ]
        log = self._folder / "api.log"
        before = log.read_text().count("listening on")
        self.api = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        eventually(lambda: log.read_text().count("listening on") > before, "the API listens")

    def end_api(self) -> None:
        self.api.kill()
        self.api.wait(10)

    def do(self, work: Callable[[Client], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            async with Client(load_kubeconfig(self.cluster.folder / "kubeconfig")) as client:
                return await work(client)

        with netns.entered(self.below):
            return asyncio.run(run())

    async def _make(self, client: Client) -> None:
        for definition in crds():
            await client.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
        pool = {"apiVersion": "tulle.dev/v1", "kind": "LoadBalancerPool", "metadata": {"name": "test"}}
        await client.create(LOAD_BALANCER_POOLS, pool | {"spec": POOL})
        for node in self.cluster.nodes:
            spec = {"podCIDRs": [str(cidr) for cidr in node.host.pod_cidrs]}
            made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name}, "spec": spec}
            await client.create(NODES, made)
        await self._show_ready(client)
        await make_service(client)

    async def _show_ready(self, client: Client) -> None:
        """As kubelets do all the time."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for node in self.cluster.nodes:
            addresses = [{"type": "InternalIP", "address": ip} for ip in node.ips]
            ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now}
            status = {"addresses": addresses, "conditions": [ready]}
            await client.patch(NODES, node.name, {"status": status}, subresource="status")

    def leases(self) -> dict[str, str]:
        """Holders by name."""

        async def ask(client: Client) -> Any:
            return (await client.list(LEASES, NAMESPACE, LABEL)).items

        return {lease["metadata"]["name"]: lease["spec"]["holderIdentity"] for lease in self.do(ask)}

    def settle(self) -> None:
        """All agents run, and each address is answered for, by one."""
        self.do(self._show_ready)
        for node in self.cluster.nodes:
            if node.agent is None:
                node.start_agent()
        since = time.monotonic()
        for vip in VIPS:
            eventually(lambda vip=vip: self.asker.first(vip, since), f"{vip} is answered for")

    def answerer(self, vip: Address) -> Node:
        since = time.monotonic()
        eventually(lambda: self.asker.first(vip, since), f"{vip} is answered for")
        [mac] = self.asker.answerers(vip, since)
        return self.nodes[self.macs[mac]]

    def taken_over(self, vip: Address, node: Node, since: Moment) -> float:
        """Seconds until another node answered, less those that the machine let its processes wait."""
        mac = mac_of(node)
        eventually(lambda: self.asker.first(vip, since.time, mac), f"another node answers for {vip}")
        heard = self.asker.first(vip, since.time, mac)
        assert heard
        waited = sum(now - since.waited.get(thread, 0) for thread, now in self.waited().items())
        return heard.when - since.time - waited

    def now(self) -> Moment:
        return Moment(time.monotonic(), self.waited())

    def waited(self) -> dict[Path, float]:
        """Seconds for which threads of the API and the agents could have run, had a processor been free."""
        agents = [node.agent.pid for node in self.cluster.nodes if node.agent]
        return {
            thread: int((thread / "schedstat").read_text().split()[1]) / 1e9
            for pid in (self.api.pid, *agents)
            for thread in Path(f"/proc/{pid}/task").iterdir()
        }

    def silent_for(self, vip: Address, seconds: float) -> bool:
        last = max((h.when for h in list(self.asker.heard) if h.asked and h.address == vip), default=0.0)
        return time.monotonic() - last > seconds


async def make_service(client: Client) -> None:
    metadata = {"name": "web", "namespace": "default"}
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}], "ipFamilyPolicy": "PreferDualStack"}
    made = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    await client.create(SERVICES, made, "default")
    status = {"loadBalancer": {"ingress": [{"ip": str(vip), "ipMode": "VIP"} for vip in VIPS]}}
    await client.patch(SERVICES, "web", {"status": status}, "default", subresource="status")


def mac_of(node: Node) -> str:
    [link] = json.loads(node.run("ip", "-json", "link", "show", "eth0").stdout)
    return str(link["address"])


def eventually(condition: Callable[[], object], what: str, patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        select.select([], [], [], 0.01)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(tmp_path_factory.mktemp("announcements"), stack)


@pytest.fixture
def scene(made: Scene) -> Iterator[Scene]:
    made.settle()
    yield made
    made.asker.assert_one_at_a_time()


def report(what: str, seconds: list[float]) -> None:
    print(f"{what}: {', '.join(f'{each:.2f}' for each in seconds)} s")


def test_one_node_answers_and_says_so(scene: Scene) -> None:
    """The Lease, `tulle status`, and the answers name the same node."""
    for vip in VIPS:
        node = scene.answerer(vip)
        leases = scene.leases()
        assert node_of(leases[grant_name(vip)]) == node.name
        assert leases[beat_name(node.name)] == leases[grant_name(vip)]
        for each in scene.cluster.nodes:
            told = [a for a in shown_announcements(each) if a["address"] == str(vip)]
            assert [a["uplink"] for a in told] == (["eth0"] if each is node else [])
            assert all(0 < a["seconds"] <= SECONDS for a in told)


def shown_announcements(node: Node) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run_status(node, "-o", "json").stdout)["announcements"]
    return found


@pytest.mark.parametrize("vip", VIPS, ids=["ARP", "NDP"])
def test_killed(scene: Scene, vip: Address) -> None:
    """Its kernel goes on, for a while. Back again, it does not take back what it had."""
    node, since = scene.answerer(vip), scene.now()
    node.kill_agent()
    seconds = scene.taken_over(vip, node, since)
    report(f"{vip}: agent killed", [seconds])
    assert seconds < LIMIT
    assert_told(scene, vip, since.time)
    other = scene.answerer(vip)
    node.start_agent()
    since = time.monotonic()
    eventually(lambda: time.monotonic() - since > SECONDS, "a while")
    assert scene.asker.answerers(vip, since) == [mac_of(other)]


def assert_told(scene: Scene, vip: Address, since: float) -> None:
    """Those that hold the old MAC are told of the new one, in each form that there is."""
    kinds = {"advertisement"} if vip.version == 6 else {"gratuitous ARP request", "gratuitous ARP reply"}

    def told() -> list[Heard]:
        return [h for h in list(scene.asker.heard) if h.address == vip and not h.asked and h.when >= since]

    eventually(lambda: len(told()) >= 5 * len(kinds), f"{vip} is announced five times")
    assert {each.kind for each in told()} == kinds
    assert len({each.mac for each in told()}) == 1


def test_cut_off_from_the_api(scene: Scene) -> None:
    """It is on the bridge still, and hears all questions: its kernel stops to answer before others begin."""
    [vip, _] = VIPS
    node = scene.answerer(vip)
    address = topology(SPEC).api[0]
    chain = "{ type filter hook output priority 0; }"
    node.run(
        "nft",
        f"add table inet cut; add chain inet cut out {chain}; add rule inet cut out ip daddr {address} drop",
    )
    since = scene.now()
    try:
        seconds = scene.taken_over(vip, node, since)
        report(f"{vip}: cut off from the API", [seconds])
        assert seconds < LIMIT
        mac = mac_of(node)
        heard = [h for h in list(scene.asker.heard) if h.asked and h.address == vip and h.mac == mac]
        assert heard[-1].when - since.time < SECONDS
    finally:
        node.run("nft", "delete table inet cut")
    taker = scene.answerer(vip)
    assert taker is not node


def test_cut_off_from_everything(scene: Scene) -> None:
    [vip, _] = VIPS
    node, since = scene.answerer(vip), scene.now()
    below = ["nsenter", f"--net={scene.below}", "ip", "link", "set", node.name]
    subprocess.run([*below, "down"], check=True)
    try:
        seconds = scene.taken_over(vip, node, since)
        report(f"{vip}: link down", [seconds])
        assert seconds < LIMIT
    finally:
        subprocess.run([*below, "up"], check=True)


def test_frozen(scene: Scene) -> None:
    """An agent that hangs, and goes on when another node has taken over, does no harm."""
    [vip, _] = VIPS
    node, since = scene.answerer(vip), scene.now()
    assert node.agent
    os.kill(node.agent.pid, signal.SIGSTOP)
    try:
        seconds = scene.taken_over(vip, node, since)
        report(f"{vip}: agent frozen", [seconds])
        assert seconds < LIMIT
    finally:
        os.kill(node.agent.pid, signal.SIGCONT)
    since = time.monotonic()
    eventually(lambda: time.monotonic() - since > 2 * SECONDS, "a while")
    assert len(scene.asker.answerers(vip, since)) == 1


def test_stopped(scene: Scene) -> None:
    """An orderly end is no failure: the next one need not wait."""
    [vip, _] = VIPS
    node, since = scene.answerer(vip), scene.now()
    node.kill_agent(signal.SIGTERM)
    seconds = scene.taken_over(vip, node, since)
    report(f"{vip}: agent stopped", [seconds])
    assert seconds < 1.0


def test_switched_off(scene: Scene) -> None:
    """An agent that is not to announce takes out what one before it left."""
    [vip, _] = VIPS
    node, since = scene.answerer(vip), scene.now()
    node.kill_agent()
    node.start_agent("--no-l2-announcements")
    assert shown_announcements(node) == []
    scene.taken_over(vip, node, since)
    node.kill_agent(signal.SIGTERM)


def test_the_api_away(scene: Scene) -> None:
    """Nobody answers, and then one does again."""
    scene.end_api()
    for vip in VIPS:
        eventually(lambda vip=vip: scene.silent_for(vip, 0.5), f"nobody answers for {vip}")
    scene.start_api()
    since = time.monotonic()
    for vip in VIPS:
        eventually(lambda vip=vip: scene.asker.first(vip, since), f"{vip} is answered for again")


def test_a_service_that_goes(scene: Scene) -> None:
    """With the last address the Leases go; a new one is answered for at once."""
    scene.do(lambda client: client.delete(SERVICES, "web", "default"))
    for vip in VIPS:
        eventually(lambda vip=vip: scene.silent_for(vip, 0.5), f"nobody answers for {vip}")
    eventually(lambda: not any(scene.leases().values()), "nobody holds a Lease")
    eventually(lambda: not any("-ip-" in name for name in scene.leases()), "no address has one")
    since = time.monotonic()
    scene.do(make_service)
    for vip in VIPS:
        eventually(lambda vip=vip: scene.asker.first(vip, since), f"{vip} is answered for")
