"""The canonical flows through the real programs: planned, written by the table, led by packets.

Each door, for clients on this node, outside, and on another node, held against rules that are told without
Tulle's code (``tests/canonical.py``). The node itself has no packets to look at: its sockets are led, which
whole clusters show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import product

import pytest
from cluster import A_LINK, A_MAC, GATEWAY_MAC, ROUTER_MAC, UPLINK, V4, VNI, Family
from packets import SYN, TCP, UDP, ethernet, out_of_vxlan, tcp
from programs import TC_ACT_REDIRECT, run_program
from service_scene import CLIENT_PORT, KEY, NODE_MAC, Ends, Scene, reasons
from tests.canonical import (
    CANONICAL,
    ELSEWHERE,
    EVERY_POLICY,
    HERE,
    Door,
    Fate,
    Outcome,
    Policies,
    Source,
    State,
    outcome,
)
from tests.canonical_objects import BACKEND_PORT, NODE_PORT, PORT, Addresses, service, slices

from tulle.kernel import netns
from tulle.model.address import Address
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.planner import plan_service

TRIES = 40
"""That one of two endpoints is missed by chance: 2**-39. For clients outside nothing is left to chance."""
HANDOVER_MAC = bytes.fromhex("0274756c6c67")
BOTH = {HERE: State.READY, ELSEWHERE: State.READY}
STATES: list[Mapping[str, State]] = [
    BOTH,
    {},
    {ELSEWHERE: State.READY},
    {HERE: State.LEAVING, ELSEWHERE: State.READY},
    {HERE: State.LEAVING, ELSEWHERE: State.LEAVING},
    {HERE: State.DOWN, ELSEWHERE: State.LEAVING},
]
FATES = {Fate.REFUSED: "DROP_SERVICE_EMPTY", Fate.DROPPED: "DROP_SERVICE_LOCAL"}
EXTERNAL = {4: ("198.51.100.7", "198.51.100.9"), 6: ("2001:db8:51::7", "2001:db8:51::9")}


def addresses_of(scene: Scene) -> Addresses:
    family = scene.family
    balancer, external = map(ip_address, EXTERNAL[family.a.version])
    return Addresses(scene.vip, balancer, external, {HERE: family.b, ELSEWHERE: family.native})


@dataclass(frozen=True)
class Client:
    """Who asks, by which hook its packets come in, and with which MACs."""

    address: Address
    hook: str
    link: int
    macs: tuple[bytes, bytes]


def client(family: Family, source: Source) -> Client:
    if source is Source.POD:
        return Client(family.a, "from_pod", A_LINK, (GATEWAY_MAC, A_MAC))
    address = family.outside if source is Source.OUTSIDE else family.routed
    return Client(address, "from_uplink", UPLINK, (NODE_MAC, ROUTER_MAC))


def doorway(scene: Scene, addresses: Addresses, door: Door) -> tuple[Address, int]:
    return {
        Door.CLUSTER_IP: (addresses.cluster, PORT),
        Door.NODE_PORT: (scene.family.node, NODE_PORT),
        Door.BALANCER: (addresses.balancer, PORT),
        Door.EXTERNAL_IP: (addresses.external, PORT),
    }[door]


def request(asking: Client, port: int, to: tuple[Address, int], protocol: int = TCP) -> bytes:
    rest = tcp(0, 0, SYN)[4:] if protocol == TCP else bytes((0, 12, 0, 0, 1, 2, 3, 4))
    return ethernet(*asking.macs, Ends(asking.address, port, *to).packet(protocol, rest))


def led(scene: Scene, source: Source, to: tuple[Address, int], protocol: int = TCP) -> Outcome:
    """By new connections from ports that no other door sees; each arrives with its own address and port."""
    asking, programs = client(scene.family, source), scene.programs
    first = CLIENT_PORT + TRIES * hash_of(to)
    [(_, reason)] = reasons(programs.run(asking.hook, request(asking, first, to, protocol), asking.link))
    for fate, name in FATES.items():
        if reason == name:
            return fate
    met = set()
    with netns.entered(programs.home):
        for port in range(first, first + TRIES):
            frame = request(asking, port, to, protocol)
            action, after, _ = run_program(programs.fds[asking.hook], frame, asking.link, 0)
            assert action == TC_ACT_REDIRECT
            met.add(met_by(scene, after, asking.address, port, to))
    return frozenset(met)


def hash_of(door: tuple[Address, int]) -> int:
    """Small, and another one for each address of a test."""
    return int.from_bytes(door[0].packed, "big") % 17


def met_by(scene: Scene, frame: bytes, source: Address, port: int, asked: tuple[Address, int]) -> str:
    """The endpoint that the frame is for, by its address or, if it is handed over, by what it says of it."""
    outer, family = frame, scene.family
    if family is V4 and frame[23] == UDP and frame[36:38] == (4789).to_bytes(2, "big"):
        _, node, vni, frame = out_of_vxlan(outer[14:])
        assert (node, vni) == (family.other_node.packed, VNI)
    ends = ends_of(frame[14:], family)
    if frame[6:12] == HANDOVER_MAC:
        assert ends == Ends(source, port, *asked)
        target = family.native.packed[-4:]
        assert frame[:6] == BACKEND_PORT.to_bytes(2, "big") + target
        return ELSEWHERE
    assert (ends.source, ends.source_port, ends.destination_port) == (source, port, BACKEND_PORT)
    return {family.b: HERE, family.native: ELSEWHERE}[ends.destination]


def ends_of(packet: bytes, family: Family) -> Ends:
    at, length = (12, 4) if family.a.version == 4 else (8, 16)
    source, destination = (ip_address(packet[i : i + length]) for i in (at, at + length))
    ports = [int.from_bytes(packet[at + 2 * length + i :][:2], "big") for i in (0, 2)]
    return Ends(source, ports[0], destination, ports[1])


def apply(
    scene: Scene,
    policies: Policies,
    endpoints: Mapping[str, State],
    protocol: str = "TCP",
    ranges: tuple[str, ...] = (),
) -> Addresses:
    addresses = addresses_of(scene)
    made = service(policies, addresses, protocol, ranges)
    planned = plan_service(made, slices(endpoints, addresses, protocol), Location("here"))
    assert planned.problems == ()
    scene.apply(*planned.ports, key=KEY)
    return addresses


@pytest.mark.parametrize("policies", EVERY_POLICY, ids=str)
def test_where_every_client_is_led(scene: Scene, policies: Policies) -> None:
    for endpoints in STATES:
        addresses = apply(scene, policies, endpoints)
        for source, door in product((Source.POD, Source.OUTSIDE, Source.OTHER), Door):
            wanted = outcome(policies, source, door, endpoints)
            found = led(scene, source, doorway(scene, addresses, door))
            assert found == wanted, (endpoints, source, door)


@pytest.mark.parametrize("policies", EVERY_POLICY[:3], ids=str)
def test_the_flows_of_kube_proxy_for_datagrams(scene: Scene, policies: Policies) -> None:
    """The columns of the table as they stand there, by UDP."""
    addresses = apply(scene, policies, BOTH, "UDP")
    for (row, source, door), (endpoints, _) in CANONICAL.items():
        if row == policies and source is not Source.NODE:
            found = led(scene, source, doorway(scene, addresses, door), UDP)
            assert found == endpoints, (source, door)


def test_a_load_balancers_address_is_open_to_whom_the_ranges_name(scene: Scene) -> None:
    """S-61, kube-proxy's ``TestLoadBalancer``: for Pods as for others, and for no other door."""
    family = scene.family
    host = 32 if family.a.version == 4 else 128
    everybody = (Source.POD, Source.OUTSIDE, Source.OTHER)
    for let_in in everybody:
        allowed = client(family, let_in).address
        addresses = apply(scene, Policies(), BOTH, ranges=(f"{allowed}/{host}",))
        for source, door in product(everybody, Door):
            to = doorway(scene, addresses, door)
            if door is Door.BALANCER and source is not let_in:
                asking = client(family, source)
                packet = request(asking, CLIENT_PORT, to)
                found = reasons(scene.programs.run(asking.hook, packet, asking.link))
                assert [reason for _, reason in found] == ["DROP_SERVICE_SOURCE"], (let_in, source)
            else:
                assert led(scene, source, to) == {HERE, ELSEWHERE}, (let_in, source, door)
    every = f"{family.unspecified}/0"
    addresses = apply(scene, Policies(), BOTH, ranges=(every,))
    for source in everybody:
        assert led(scene, source, doorway(scene, addresses, Door.BALANCER)) == {HERE, ELSEWHERE}
