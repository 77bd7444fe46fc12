"""What a lab looks like."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tulle.errors import ConfigError
from tulle.lab.spec import Spec, parse_families, topology


def test_nodes_are_dealt_out_to_zones_and_subnets() -> None:
    nodes = topology(Spec(nodes=3, zones=2, subnets=2)).nodes
    assert [n.zone for n in nodes] == ["zone-a", "zone-b", "zone-a"]
    assert [n.bridge for n in nodes] == ["subnet-1", "subnet-2", "subnet-1"]
    assert [str(a) for a in nodes[1].addresses] == ["172.30.2.12/24", "fd00:172:30:2::c/64"]
    assert [str(g) for g in nodes[1].gateways] == ["172.30.2.1/24", "fd00:172:30:2::1/64"]
    assert [str(c) for c in nodes[1].pod_cidrs] == ["10.244.2.0/24", "fd00:10:244:2::/64"]


@pytest.mark.parametrize("text", ["ipv4,ipv6", "ipv6,ipv4", "ipv4", "ipv6"])
def test_families_keep_their_order(text: str) -> None:
    families = parse_families(text)
    node = topology(Spec(families=families)).nodes[0]
    assert [f"ipv{address.version}" for address in node.addresses] == list(families)
    assert [f"ipv{cidr.version}" for cidr in node.pod_cidrs] == list(families)


def test_no_two_hosts_share_an_address_or_a_pod_cidr() -> None:
    hosts = topology(Spec(nodes=100, subnets=7)).hosts
    addresses = [address.ip for host in hosts for address in host.addresses]
    cidrs = [cidr for host in hosts for cidr in host.pod_cidrs]
    assert len(set(addresses)) == len(addresses)
    assert not any(a.overlaps(b) for a in cidrs for b in cidrs if a.version == b.version and a is not b)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"name": "Upper"}, "--name"),
        ({"name": "a" * 17}, "--name"),
        ({"nodes": 0}, "--nodes"),
        ({"nodes": 101}, "--nodes"),
        ({"zones": 27}, "--zones"),
        ({"subnets": 4}, "--subnets"),
        ({"routing": "magic"}, "--routing"),
        ({"mtu": 1000}, "--mtu"),
    ],
)
def test_what_cannot_be_right_is_refused_by_flag(change: dict[str, object], flag: str) -> None:
    with pytest.raises(ConfigError, match=f"^{flag} "):
        msgspec.structs.replace(Spec(), **change).checked()


@pytest.mark.parametrize("text", ["", "ipv5", "ipv4,ipv4", "ipv4;ipv6"])
def test_families_that_cannot_be_right(text: str) -> None:
    with pytest.raises(ConfigError, match="--ip-families"):
        parse_families(text)


def test_a_topology_is_a_value() -> None:
    assert topology(Spec()) == topology(Spec())
    assert replace(topology(Spec()), mtu=9000) != topology(Spec())
