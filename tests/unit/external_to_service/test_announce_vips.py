"""What is announced, and who can: Services, pools, endpoints, Nodes in, candidates out (S-24, S-44, S-75)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tulle.external_to_service.announce.vips import Link, Vip, find_vips
from tulle.model.announcing import AnnouncedPool
from tulle.model.objects import Condition, Node
from tulle.model.services import EndpointSlice, Service

V4, V6 = "192.0.2.200", "2001:db8::c8"
HERE = Link(2, (ip_interface("192.0.2.11/24"), ip_interface("2001:db8::11/64")))
ELSEWHERE = Link(3, (ip_interface("198.51.100.11/24"),))


def service(name: str = "web", ips: Iterable[str] = (V4,), policy: str = "Cluster", **spec: Any) -> Service:
    mode = spec.pop("ipMode", None)
    told = {"loadBalancer": {"ingress": [{"ip": ip, "ipMode": mode} for ip in ips]}}
    raw = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": policy} | spec,
        "status": told,
    }
    return msgspec.convert(raw, Service)


def node(name: str, ready: str | None = "True", address: str = "", **metadata: Any) -> Node:
    address = address or f"192.0.2.{11 + ord(name[0]) - ord('a')}"
    raw = {
        "metadata": {"name": name} | metadata,
        "status": {
            "addresses": [
                {"type": "Hostname", "address": name},
                {"type": "InternalIP", "address": address},
            ],
            "conditions": [{"type": "Ready", "status": ready}] if ready else [],
        },
    }
    return msgspec.convert(raw, Node)


def endpoints(*where: tuple[str | None, str]) -> list[EndpointSlice]:
    """(node, ready | leaving | broken) each."""
    states = {
        "ready": {},
        "leaving": {"ready": False, "serving": True, "terminating": True},
        "broken": {"ready": False, "serving": False, "terminating": True},
    }
    found = [{"addresses": ["10.0.0.1"], "nodeName": n, "conditions": states[s]} for n, s in where]
    raw = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": found}
    return [msgspec.convert(raw, EndpointSlice)]


def pool(*addresses: str, announce: Iterable[str] | None = None) -> AnnouncedPool:
    spec = {"addresses": addresses, "announce": announce}
    return msgspec.convert({"metadata": {"name": "pool"}, "spec": spec}, AnnouncedPool)


@dataclass
class Scene:
    """One thing is changed by each test."""

    services: list[Service] = field(default_factory=lambda: [service()])
    slices: dict[tuple[str, str], list[EndpointSlice]] = field(default_factory=dict)
    pools: list[AnnouncedPool] = field(default_factory=lambda: [pool("192.0.2.192/26", f"{V6}-2001:db8::ff")])
    nodes: list[Node] = field(default_factory=lambda: [node("a"), node("b"), node("c")])
    links: list[Link] = field(default_factory=lambda: [HERE, ELSEWHERE])

    def found(self) -> dict[str, Vip]:
        vips = find_vips(self.services, self.slices, self.pools, self.nodes, self.links)
        return {str(address): vip for address, vip in vips.items()}

    def candidates(self) -> set[str]:
        return set(self.found()[V4].candidates)


def test_an_address_and_its_candidates() -> None:
    vip = Scene().found()[V4]
    assert vip.address == ip_address(V4)
    assert set(vip.candidates) == set(vip.keepers) == {"a", "b", "c"}
    assert vip.links == (HERE.index,)


def test_an_address_that_no_pool_has() -> None:
    """It stays announced if our controller gave it: a pool that shrinks cuts nobody off."""
    kept = service()
    said = msgspec.convert([{"type": "tulle.dev/AddressAssigned", "status": "True"}], tuple[Condition, ...])
    given = replace(kept, status=replace(kept.status, conditions=said))
    assert Scene([given], pools=[pool("192.0.2.208/28")]).found()
    assert not Scene([kept], pools=[pool("192.0.2.208/28")]).found()
    assert not Scene([given], pools=[pool("192.0.2.192/26", announce=["BGP"])]).found()


def test_both_families() -> None:
    nodes = [node("a"), node("b", address="2001:db8::12")]
    found = Scene([service(ips=(V4, V6))], nodes=nodes).found()
    assert {address: set(vip.candidates) for address, vip in found.items()} == {V4: {"a"}, V6: {"b"}}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(service(type="NodePort"), id="no LoadBalancer any more"),
        pytest.param(service(loadBalancerClass="example.com/other"), id="of another class"),
        pytest.param(service(ipMode="Proxy"), id="ipMode Proxy"),
        pytest.param(service(ips=()), id="no address yet"),
        pytest.param(service(ips=("192.0.2.100",)), id="of no pool"),
        pytest.param(service(ips=("a host name",)), id="no address at all"),
        pytest.param(service(ips=(), externalIPs=[V4]), id="externalIPs"),
    ],
)
def test_what_is_not_announced(other: Service) -> None:
    assert Scene([other]).found() == {}


@pytest.mark.parametrize("spec", [{"loadBalancerClass": "tulle.dev/lb"}, {"ipMode": "VIP"}])
def test_what_is(spec: dict[str, Any]) -> None:
    assert set(Scene([service(**spec)]).found()) == {V4}


def test_only_where_it_lies_in_a_subnet() -> None:
    assert Scene(links=[ELSEWHERE]).found() == {}
    assert Scene(links=[]).found() == {}


@pytest.mark.parametrize(
    ("announce", "found"), [(None, True), (["L2"], True), (["BGP"], False), (["BGP", "L2"], True)]
)
def test_pools_that_announce_otherwise(announce: list[str] | None, found: bool) -> None:
    assert bool(Scene(pools=[pool("192.0.2.192/26", announce=announce)]).found()) is found


def test_a_pool_that_cannot_be_read_keeps_no_other_out() -> None:
    assert set(Scene(pools=[pool("192.0.2.9-192.0.2.1", "192.0.2.0/33", V4)]).found()) == {V4}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(
            node("b", labels={"node.kubernetes.io/exclude-from-external-load-balancers": ""}), id="label"
        ),
        pytest.param(node("b", deletionTimestamp="2026-01-01T00:00:00Z"), id="goes"),
        pytest.param(node("b", ready="False"), id="not ready"),
        pytest.param(node("b", ready="Unknown"), id="not heard of"),
        pytest.param(node("b", ready=None), id="new"),
        pytest.param(node("b", address="198.51.100.12"), id="on another subnet"),
        pytest.param(node("b", address="no address"), id="without a proper address"),
    ],
)
def test_nodes_that_cannot(other: Node) -> None:
    assert Scene(nodes=[node("a"), other]).candidates() == {"a"}


def test_where_no_node_is_ready_all_count() -> None:
    """That the kubelets are silent does not mean that nobody serves."""
    gone = node("c", "Unknown", deletionTimestamp="2026-01-01T00:00:00Z")
    assert Scene(nodes=[node("a", "Unknown"), node("b", "False"), gone]).candidates() == {"a", "b"}


LOCAL = service(policy="Local")
KEY = ("default", "web")


@pytest.mark.parametrize(
    ("where", "candidates", "keepers"),
    [
        pytest.param([("a", "ready")], "a", "a", id="one"),
        pytest.param([("a", "ready"), ("b", "leaving")], "a", "ab", id="who ends may keep it"),
        pytest.param([("a", "broken"), ("b", "ready")], "b", "b", id="who does not serve"),
        pytest.param([("b", "leaving"), ("c", "broken")], "b", "b", id="only one that ends"),
        pytest.param([], "abc", "abc", id="none: refused anywhere"),
        pytest.param([("a", "broken")], "abc", "abc", id="none that serves"),
        pytest.param([(None, "ready"), ("a", "ready")], "a", "a", id="one of no node"),
    ],
)
def test_local_policy(where: list[tuple[str | None, str]], candidates: str, keepers: str) -> None:
    vip = Scene([LOCAL], {KEY: endpoints(*where)}).found()[V4]
    assert (set(vip.candidates), set(vip.keepers)) == (set(candidates), set(keepers))


def test_cluster_policy_asks_for_no_endpoint_here() -> None:
    assert Scene(slices={KEY: endpoints(("a", "ready"))}).candidates() == {"a", "b", "c"}


def test_services_that_share_an_address() -> None:
    """All of them must have an endpoint where the policy is Local; what no node can do, some do best."""
    other = service("other", policy="Local")
    key = ("default", "other")
    ab, bc, c = (
        endpoints(("a", "ready"), ("b", "ready")),
        endpoints(("b", "ready"), ("c", "ready")),
        endpoints(),
    )
    assert Scene([LOCAL, other], {KEY: ab, key: bc}).candidates() == {"b"}
    assert Scene([LOCAL, other], {KEY: ab, key: c}).candidates() == {"a", "b"}
    assert Scene([LOCAL, service("other")], {KEY: ab, key: bc}).candidates() == {"a", "b"}
    apart = {KEY: endpoints(("a", "ready")), key: endpoints(("c", "ready"))}
    assert Scene([LOCAL, other], apart).candidates() == {"a", "c"}


def test_addresses_are_spread_over_nodes_and_stay_where_they_are() -> None:
    """The same order on every node; and without one node, the others' order is as before."""
    ips = [f"192.0.2.{n}" for n in range(192, 256)]
    nodes = [node(name) for name in "abcd"]
    found = Scene([service(ips=ips)], nodes=nodes).found()
    first = [found[ip].candidates[0] for ip in ips]
    assert all(8 <= first.count(name) <= 25 for name in "abcd")
    shuffled = Scene([service(ips=ips)], nodes=nodes[::-1]).found()
    assert shuffled == found
    without = Scene([service(ips=ips)], nodes=nodes[1:]).found()
    for ip in ips:
        assert without[ip].candidates == tuple(n for n in found[ip].candidates if n != "a")
