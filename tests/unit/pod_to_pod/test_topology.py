"""From Node objects to next hops (N-14, N-20, N-23)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tulle.model.objects import Node, NodeAddress, NodeSpec, NodeStatus, ObjectMeta
from tulle.pod_to_pod.topology import (
    Peer,
    Remote,
    Routing,
    Transport,
    Uplink,
    find_uplinks,
    peers_of,
    plan_remotes,
    pod_mtu,
)

ETH0 = Uplink(2, "eth0", 1500, (ip_interface("192.168.0.1/24"), ip_interface("fd00::1/64")))


def node(name: str, addresses: Sequence[str] = (), cidrs: Sequence[str] = ()) -> Node:
    told = (*(NodeAddress("InternalIP", a) for a in addresses), NodeAddress("Hostname", name))
    return Node(ObjectMeta(name), NodeSpec(tuple(cidrs)), NodeStatus(told))


def peer(name: str, addresses: str, cidrs: str = "") -> Peer:
    return Peer(name, tuple(map(ip_address, addresses.split())), tuple(map(ip_network, cidrs.split())))


OWN = peer("n1", "192.168.0.1 fd00::1", "10.1.0.0/24 fd01::/64")
BESIDE = peer("n2", "192.168.0.2 fd00::2", "10.2.0.0/24 fd02::/64")
AWAY = peer("n3", "192.168.9.3 fd00:9::3", "10.3.0.0/24 fd03::/64")


def test_peers_are_the_nodes_that_can_take_part() -> None:
    nodes = [
        node("n2", ["192.168.0.2"], ["10.2.0.0/24"]),
        node("n1", ["192.168.0.1", "fd00::1"], ["10.1.0.0/24", "fd01::/64"]),
        node("no-cidr", ["192.168.0.4"]),
        node("no-address", cidrs=["10.5.0.0/24"]),
    ]
    assert peers_of(nodes) == ([OWN, peer("n2", "192.168.0.2", "10.2.0.0/24")], [])


FIRST = node("a", ["192.168.0.1", "fd00::1"], ["10.1.0.0/24", "fd01::/64"])


@pytest.mark.parametrize(
    ("addresses", "cidrs", "said"),
    [
        (["192.168.0"], ["10.2.0.0/24"], "status.addresses: '192.168.0' does not appear"),
        (["192.168.0.2"], ["10.2.0.0/33"], "spec.podCIDRs: '10.2.0.0/33' does not appear"),
        (["192.168.0.2"], ["10.2.0.7/24"], "spec.podCIDRs: 10.2.0.7/24 has host bits set"),
        (["192.168.0.2"], ["10.2.0.0/24", "10.3.0.0/24"], "spec.podCIDRs: 10.2.0.0/24, 10.3.0.0/24 has two"),
        (["192.168.0.2"], ["10.1.0.0/24"], "spec.podCIDRs: 10.1.0.0/24 overlaps 10.1.0.0/24 of node a"),
        (["192.168.0.2"], ["10.1.0.128/25"], "spec.podCIDRs: 10.1.0.128/25 overlaps 10.1.0.0/24 of node a"),
        (["192.168.0.2"], ["10.0.0.0/8"], "spec.podCIDRs: 10.0.0.0/8 overlaps 10.1.0.0/24 of node a"),
        (["192.168.0.2"], ["10.2.0.0/24", "fd01::/48"], "spec.podCIDRs: fd01::/48 overlaps fd01::/64"),
        (["192.168.0.2"], ["192.168.0.0/28"], "holds 192.168.0.1, the address of node a"),
        (["172.16.0.2"], ["172.16.0.0/24"], "holds 172.16.0.2, the address of node b"),
        (["10.1.0.200"], ["10.2.0.0/24"], "status.addresses: 10.1.0.200 lies in 10.1.0.0/24"),
        (["192.168.0.2", "fd01::2"], ["10.2.0.0/24"], "status.addresses: fd01::2 lies in fd01::/64"),
    ],
)
def test_what_cannot_be_right_is_named_and_left_out(
    addresses: list[str], cidrs: list[str], said: str
) -> None:
    wrong, last = node("b", addresses, cidrs), node("c", ["192.168.0.3"], ["10.9.0.0/24"])
    peers, problems = peers_of([last, wrong, FIRST])
    assert [p.name for p in peers] == ["a", "c"]
    assert [p.node for p in problems] == ["b"]
    assert said in problems[0].message


def test_who_was_left_out_is_in_nobodys_way() -> None:
    nodes = [FIRST, node("b", ["192.168.0.2"], ["10.0.0.0/8"]), node("c", ["192.168.0.3"], ["10.2.0.0/24"])]
    assert [p.name for p in peers_of(nodes)[0]] == ["a", "c"]


def test_cidrs_side_by_side_do_not_overlap() -> None:
    nodes = [node(f"n{i:02}", [f"192.168.0.{i}"], [f"10.0.{i}.0/24", f"fd01:{i}::/32"]) for i in range(1, 40)]
    assert len(peers_of(nodes)[0]) == 39
    assert peers_of(nodes)[1] == []


def test_an_old_object_of_the_same_node_does_not_push_it_out() -> None:
    """A machine that was renamed: both objects have its address until the old one is deleted."""
    nodes = [node("new", ["192.168.0.2"], ["10.2.0.0/24"]), node("old", ["192.168.0.2"], ["10.3.0.0/24"])]
    assert len(peers_of(nodes)[0]) == 2


def ways(remotes: list[Remote]) -> dict[str, str]:
    """``transport node`` by prefix; where the routers know the way, ``native by the routes``."""

    def way(remote: Remote) -> str:
        known = remote.transport is Transport.OVERLAY or remote.way.neighbour
        return f"{remote.transport} {remote.way.node if known else 'by the routes'}"

    return {str(r.prefix): way(r) for r in remotes}


def native(peer: Peer, *hops: str) -> dict[str, str]:
    cidrs = {str(cidr): f"native {hop}" for cidr, hop in zip(peer.pod_cidrs, hops, strict=True)}
    own = {str(ip_network(a)): f"native {hop}" for a, hop in zip(peer.addresses, hops, strict=True)}
    return cidrs | own


def overlay(peer: Peer, outer: str) -> dict[str, str]:
    return {str(ip_network(p)): f"overlay {outer}" for p in (*peer.pod_cidrs, *peer.addresses)}


@pytest.mark.parametrize(
    ("routing", "beside", "away"),
    [
        (
            Routing.AUTO,
            native(BESIDE, "192.168.0.2", "fd00::2"),
            overlay(AWAY, "192.168.9.3"),
        ),
        (
            Routing.NATIVE,
            native(BESIDE, "192.168.0.2", "fd00::2"),
            native(AWAY, "by the routes", "by the routes"),
        ),
        (
            Routing.OVERLAY,
            overlay(BESIDE, "192.168.0.2"),
            overlay(AWAY, "192.168.9.3"),
        ),
    ],
)
def test_routing(routing: Routing, beside: dict[str, str], away: dict[str, str]) -> None:
    remotes = plan_remotes(OWN, [OWN, BESIDE, AWAY], [ETH0], routing)
    assert ways(remotes) == beside | away
    addresses = {*BESIDE.addresses, *AWAY.addresses}
    assert all(r.pods == (r.prefix.network_address not in addresses) for r in remotes)


def test_an_old_object_of_this_node_is_no_peer() -> None:
    """Its address is ours: what Pods send to the node must not leave by the uplink."""
    assert plan_remotes(OWN, [peer("old", "192.168.0.1", "10.9.0.0/24")], [ETH0], Routing.AUTO) == []


def test_auto_decides_for_each_family() -> None:
    """One subnet for IPv6, another for IPv4."""
    other = peer("n2", "192.168.9.2 fd00::2", "10.2.0.0/24 fd02::/64")
    assert ways(plan_remotes(OWN, [OWN, other], [ETH0], Routing.AUTO)) == {
        "10.2.0.0/24": "overlay 192.168.9.2",
        "192.168.9.2/32": "overlay 192.168.9.2",
        "fd02::/64": "native fd00::2",
        "fd00::2/128": "native fd00::2",
    }


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        pytest.param(
            "fd00::1", "fd00::2", overlay(peer("", "fd00::2", "fd02::/64"), "fd00::2"), id="IPv6 only"
        ),
        pytest.param(
            "fd00::1 192.168.0.1",
            "fd00::2 192.168.0.2",
            overlay(peer("", "fd00::2 192.168.0.2", "fd02::/64"), "fd00::2"),
            id="IPv6 first",
        ),
        pytest.param(
            "192.168.0.1",
            "fd00::2 192.168.0.2",
            overlay(peer("", "fd00::2 192.168.0.2", "fd02::/64"), "192.168.0.2"),
            id="the one family that both have",
        ),
        pytest.param("192.168.0.1", "fd00::2", {}, id="no family that both have"),
    ],
)
def test_outer_family_of_the_overlay(own: str, other: str, expected: dict[str, str]) -> None:
    remotes = plan_remotes(peer("n1", own), [peer("n2", other, "fd02::/64")], [ETH0], Routing.OVERLAY)
    assert ways(remotes) == expected


def test_the_uplink_that_leads_there() -> None:
    storage = Uplink(3, "eth1", 9000, (ip_interface("172.16.0.1/24"),))
    tunnel = Uplink(4, "wg0", 1420, ())
    assert find_uplinks([tunnel, storage, ETH0], OWN) == [ETH0]
    other = peer("n2", "172.16.0.2", "10.2.0.0/24")
    assert {r.way.uplink.name for r in plan_remotes(OWN, [other], [ETH0, storage], Routing.AUTO)} == {"eth1"}


@pytest.mark.parametrize(
    ("own", "others", "routing", "mtu"),
    [
        (OWN, [BESIDE], Routing.NATIVE, 1500),
        (OWN, [BESIDE], Routing.AUTO, 1500),
        (OWN, [BESIDE, AWAY], Routing.AUTO, 1450),
        (OWN, [BESIDE], Routing.OVERLAY, 1450),
        (OWN, [], Routing.OVERLAY, 1450),
        (peer("n1", "fd00::1"), [], Routing.OVERLAY, 1430),
        (peer("n1", "fd00::1"), [peer("n2", "fd00:9::2", "fd02::/64")], Routing.AUTO, 1430),
        (OWN, [AWAY, peer("n2", "fd00:9::2", "fd02::/64")], Routing.AUTO, 1430),
    ],
)
def test_pod_mtu(own: Peer, others: list[Peer], routing: Routing, mtu: int) -> None:
    remotes = plan_remotes(own, others, [ETH0], routing)
    assert pod_mtu([ETH0], remotes, routing, own) == mtu


def test_the_smallest_uplink_bounds_the_mtu() -> None:
    jumbo = Uplink(3, "eth1", 9000, ())
    assert pod_mtu([jumbo, ETH0], [], Routing.AUTO, OWN) == 1500
