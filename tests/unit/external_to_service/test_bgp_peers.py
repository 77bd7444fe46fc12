"""Which BGPPeers become sessions of a node, and what is said of the others."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from bgp_objects import HERE, V4, V6, judged, peer, peer_object

from tulle.external_to_service.bgp.peers import Here, judge_all, judge_password


def test_the_defaults() -> None:
    found = peer()
    assert (found.port, found.hold_time, found.keepalive_time, found.restart_time) == (179, 90, 30, 120)
    assert found.announce == ("PodCIDRs", "LoadBalancers") and not found.multihop
    assert found.source == V4 and found.next_hops == {4: V4, 6: V6}


def test_a_source_address_is_the_next_hop_of_its_family() -> None:
    own = HERE.own | {bytes(10) + b"\xff\xff" + ip_address("10.9.0.1").packed}
    here = Here("node-1", {}, HERE.addresses, own)
    found = judge_all([peer_object(sourceAddress="10.9.0.1")], here)["router"][0]
    assert found and found.source == ip_address("10.9.0.1") == found.next_hops[4] and found.next_hops[6] == V6


@pytest.mark.parametrize(
    ("field", "spec", "words"),
    [
        ("peerAddress", {"peerAddress": ""}, "is not an IP address"),
        ("peerAddress", {"peerAddress": "172.30.1.300"}, "is not an IP address"),
        ("peerAddress", {"peerAddress": "fe80::1"}, "means something else on each machine"),
        ("peerAddress", {"peerAddress": "fe80::1%eth0; }"}, "means something else on each machine"),
        ("peerAddress", {"peerAddress": "224.0.0.1"}, "means something else on each machine"),
        ("peerAddress", {"peerAddress": "172.30.1.11"}, "of node node-1 itself"),
        ("peerASN", {"peerASN": 0}, "0 is not 1 to 4294967295"),
        ("localASN", {"localASN": 1 << 32}, "4294967296 is not 1 to 4294967295"),
        ("peerPort", {"peerPort": 65536}, "65536 is not 1 to 65535"),
        ("sourceAddress", {"sourceAddress": "172.30.1.12"}, "is no address of node node-1"),
        ("sourceAddress", {"sourceAddress": "fd00:172:30:1::b"}, "is not of the family of 172.30.1.1"),
        ("holdTime", {"holdTime": 2}, "2 is not 3 to 65535"),
        ("keepaliveTime", {"holdTime": 9, "keepaliveTime": 9}, "9 is not 1 to 8"),
        ("connectRetry", {"connectRetry": 0}, "0 is not 1 to 3600"),
        ("restartTime", {"restartTime": 4096}, "4096 is not 1 to 4095"),
        ("ebgpMultihop", {"ebgpMultihop": 256}, "256 is not 0 to 255"),
        ("ebgpMultihop", {"ebgpMultihop": 2, "peerASN": 64512}, "so this is iBGP"),
        ("communities[1]", {"communities": ["1:2", "65536:1"]}, "'65536:1' is neither"),
        ("communities[0]", {"communities": ["no-export"]}, "is neither a community"),
        ("communities[0]", {"communities": ["1:2:4294967296"]}, "nor a large one"),
        ("communities[0]", {"communities": ["1:2)); accept; #"]}, "nor a large one"),
        ("announce", {"announce": []}, "is empty"),
        ("announce", {"announce": ["ClusterIPs"]}, "'ClusterIPs' is not PodCIDRs or LoadBalancers"),
    ],
)
def test_what_cannot_be_right_is_named(field: str, spec: dict[str, Any], words: str) -> None:
    found, problems = judged(**spec)
    assert found is None
    assert [p.field for p in problems] == [f"spec.{field}"] and words in problems[0].message


def test_a_node_without_an_address_of_the_routers_family() -> None:
    here = Here("node-1", {}, {4: V4}, HERE.own)
    _, [problem] = judge_all([peer_object(peerAddress="fd00::1")], here)["router"]
    assert problem.field == "spec.sourceAddress" and "has no InternalIP of the family" in problem.message
    assert here.router_id == V4
    assert Here("node-1", {}, {6: V6}, HERE.own).router_id != Here("node-2", {}, {6: V6}, HERE.own).router_id


def test_only_peers_for_this_node_count() -> None:
    objects = [
        peer_object("far", nodeSelector={"matchLabels": {"zone": "b"}}),
        peer_object("near", nodeSelector={"matchExpressions": [{"key": "zone", "operator": "Exists"}]}),
        peer_object(
            "odd",
            peerAddress="172.30.1.2",
            nodeSelector={"matchExpressions": [{"key": "zone", "operator": "Is"}]},
        ),
    ]
    found = judge_all(objects, HERE)
    assert set(found) == {"near", "odd"} and found["near"][0]
    assert [p.field for p in found["odd"][1]] == ["spec.nodeSelector"]


def test_of_two_with_one_address_the_first_by_name_has_it() -> None:
    found = judge_all([peer_object("b"), peer_object("a", peerPort=1179)], HERE)
    assert found["a"][0] and not found["b"][0]
    assert "is BGPPeer a's on this node already" in found["b"][1][0].message


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("right one #{};'", ""),
        ("", "is empty"),
        ("secret\n", "ends in a line break"),
        ('with "quotes"', "has a character"),
        ("pässword", "has a character"),
        ("a\nb", "has a character"),
        ("x" * 81, "is longer than 80"),
    ],
)
def test_passwords_that_bird_can_read(password: str, words: str) -> None:
    assert words in judge_password(password) and bool(judge_password(password)) == bool(words)
