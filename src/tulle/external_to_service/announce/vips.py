"""Which addresses there are to announce, and who can: from Services, their endpoints, pools, Nodes and
uplinks.

An address is announced if a Service of type LoadBalancer that is ours has it (S-24, S-75), a LoadBalancerPool
that announces by ``L2`` holds it, and it lies in a subnet of one of this node's uplinks.

``externalTrafficPolicy: Local`` (S-44): only nodes with an endpoint can, those that are ready before those
that end. A node that has it may keep it until its last endpoint has ended: a connection through it then does,
too. A Service without any endpoint asks for nothing: it refuses everywhere (S-40).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from tulle.external_to_service.announce.ways import L2, is_given, way
from tulle.external_to_service.pools.claim import CLASS
from tulle.kube.resources import Key
from tulle.model.address import Address, Interface, Network, from_bytes, parse_lenient
from tulle.model.announcing import AnnouncedPool
from tulle.model.objects import Node
from tulle.model.services import EndpointSlice, Service

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
"""A label of Nodes (S-75); any value does."""


@dataclass(frozen=True, slots=True)
class Link:
    """An uplink of this node: its index, and its addresses with the prefix lengths of its subnets."""

    index: int
    addresses: tuple[Interface, ...]


@dataclass(frozen=True, slots=True)
class Vip:
    """An address to announce. ``candidates``: who can take it, the first before the others, by a hash that
    spreads addresses over nodes. ``keepers``: who else can keep it. ``links``: where this node would announce
    it.
    """

    address: Address
    candidates: tuple[str, ...]
    keepers: frozenset[str] = frozenset()
    links: tuple[int, ...] = ()


@dataclass(slots=True)
class _Serving:
    """The nodes with a ready endpoint of a Service, and those with one that ends but serves."""

    ready: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)


def find_vips(
    services: Iterable[Service],
    slices: Mapping[Key, Iterable[EndpointSlice]],
    pools: Iterable[AnnouncedPool],
    nodes: Iterable[Node],
    links: Sequence[Link],
) -> dict[Address, Vip]:
    """Those in a subnet of ``links``. ``slices`` by the Service that they belong to."""
    announced = way(pools, L2)
    users: defaultdict[Address, list[Service]] = defaultdict(list)
    for service in services:
        for address in addresses_of(service):
            if announced.has(address, is_given(service)):
                users[address].append(service)
    subnets = _subnets(nodes, links)
    found = (_vip(address, each, slices, subnets) for address, each in users.items())
    return {vip.address: vip for vip in found if vip.links}


def addresses_of(service: Service) -> set[Address]:
    """The addresses that nodes are to answer for, for this Service."""
    if service.spec.type != "LoadBalancer" or service.spec.load_balancer_class not in (None, CLASS):
        return set()
    told = service.status.load_balancer.ingress or ()
    raw = (parse_lenient(each.ip) for each in told if each.ip and each.ip_mode in (None, "VIP"))
    return {from_bytes(each) for each in raw if each}


@dataclass(frozen=True, slots=True)
class _Subnet:
    """A subnet of an uplink, and the nodes with an address in it. (One may have its uplink elsewhere: then
    it finds out itself, and does not take part.)
    """

    network: Network
    link: int
    nodes: frozenset[str]
    ready: frozenset[str]


def _subnets(nodes: Iterable[Node], links: Iterable[Link]) -> list[_Subnet]:
    eligible = [(node, _addresses(node)) for node in nodes if _is_eligible(node)]
    found: list[_Subnet] = []
    for index, network in dict.fromkeys((link.index, i.network) for link in links for i in link.addresses):
        near = [node for node, theirs in eligible if any(each in network for each in theirs)]
        names = frozenset(node.metadata.name for node in near)
        ready = frozenset(node.metadata.name for node in near if _is_ready(node))
        found.append(_Subnet(network, index, names, ready))
    return found


def _addresses(node: Node) -> list[Address]:
    raw = (parse_lenient(a.address) for a in node.status.addresses if a.type == "InternalIP")
    return [from_bytes(each) for each in raw if each]


def _is_eligible(node: Node) -> bool:
    return node.metadata.deletion_timestamp is None and EXCLUDED not in node.metadata.labels


def _is_ready(node: Node) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)


def _vip(
    address: Address,
    services: Iterable[Service],
    slices: Mapping[Key, Iterable[EndpointSlice]],
    subnets: Iterable[_Subnet],
) -> Vip:
    """Where no node is Ready, all count: that the kubelets are silent does not mean that nobody serves."""
    here = [subnet for subnet in subnets if address in subnet.network]
    names = {name for subnet in here for name in subnet.ready}
    names = names or {name for subnet in here for name in subnet.nodes}
    candidates, keepers = _with_endpoints(names, services, slices)
    ranked = _rank(str(address), frozenset(candidates))
    return Vip(address, ranked, frozenset(keepers), tuple(dict.fromkeys(s.link for s in here)))


@lru_cache(maxsize=4096)
def _rank(address: str, nodes: frozenset[str]) -> tuple[str, ...]:
    """Rendezvous hashing: who comes and goes does not change the order of the others."""
    return tuple(sorted(nodes, key=lambda node: hashlib.sha256(f"{address} {node}".encode()).digest()))


def _with_endpoints(
    names: set[str],
    services: Iterable[Service],
    slices: Mapping[Key, Iterable[EndpointSlice]],
) -> tuple[set[str], set[str]]:
    """Who can take the address, and who can keep it, for all Services that share it.

    Where no node has endpoints of all of them, those that have some are better than none.
    """
    ready, kept = set(names), set(names)
    some: set[str] = set()
    for service in services:
        serving = _serving(service, slices) if service.spec.external_traffic_policy == "Local" else None
        if serving and (serving.ready or serving.leaving):
            best = serving.ready & names or serving.leaving & names
            ready &= best
            kept &= serving.ready | serving.leaving
            some |= best
    return (ready or some, kept)


def _serving(service: Service, slices: Mapping[Key, Iterable[EndpointSlice]]) -> _Serving:
    found = _Serving()
    for each in slices.get((service.metadata.namespace, service.metadata.name), ()):
        for endpoint in each.endpoints or ():
            if not endpoint.node_name:
                continue
            said = endpoint.conditions
            if said.ready is not False:
                found.ready.add(endpoint.node_name)
            elif said.serving is not False and said.terminating:
                found.leaving.add(endpoint.node_name)
    return found
