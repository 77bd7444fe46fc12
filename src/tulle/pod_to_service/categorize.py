"""Which endpoints of a port are used from this node: exactly Kubernetes' ``CategorizeEndpoints``. Pure.

There are two sets. *Cluster* is what a connection may use whose traffic policy is Cluster, *local* what it
may use whose policy is Local. A set that no connection can need is not computed and empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple

from tulle.pod_to_service.plan import Backend


class Location(NamedTuple):
    """This node's name and its ``topology.kubernetes.io/zone``, empty where it has none (S-15).

    ``addresses``: the Node's own, 16 bytes each.
    """

    node: str
    zone: str = ""
    addresses: frozenset[bytes] = frozenset()


class Standing(NamedTuple):
    """What is said of one endpoint, with the defaults filled in (S-10 to S-12)."""

    ready: bool
    serving: bool
    terminating: bool
    local: bool
    zones: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()

    @property
    def leaving(self) -> bool:
        """Good enough where nothing better is: it still answers, though not for long (S-31)."""
        return self.serving and self.terminating


class Policy(NamedTuple):
    """``accessible``: the port can be reached from outside (node port, load balancer, external address)."""

    internal_local: bool = False
    external_local: bool = False
    accessible: bool = False

    @property
    def uses_cluster(self) -> bool:
        """S-30; also with ``externalTrafficPolicy: Local``, for what comes from this node itself."""
        return not self.internal_local or self.accessible

    @property
    def uses_local(self) -> bool:
        """S-30."""
        return self.internal_local or (self.external_local and self.accessible)


class Topology(Enum):
    """What the hints ask for on this node (S-32)."""

    ANY = "any"
    SAME_NODE = "same node"
    SAME_ZONE = "same zone"


class Categories(NamedTuple):
    """The two sets, sorted. ``anywhere``: some endpoint exists, be it one that this node must not use."""

    cluster: tuple[Backend, ...]
    local: tuple[Backend, ...]
    anywhere: bool


Endpoints = Mapping[Backend, Standing]


def categorize(endpoints: Endpoints, policy: Policy, here: Location) -> Categories:
    """S-30 to S-33."""
    cluster: tuple[Backend, ...] = ()
    local: tuple[Backend, ...] = ()
    if policy.uses_cluster:
        cluster = _cluster(endpoints, here)
    if policy.uses_local:
        local = _usable({backend: s for backend, s in endpoints.items() if s.local})
    anywhere = bool(cluster or local) or any(s.ready or s.leaving for s in endpoints.values())
    return Categories(cluster, local, anywhere)


def _cluster(endpoints: Endpoints, here: Location) -> tuple[Backend, ...]:
    mode = topology_mode(endpoints, here)
    if mode is Topology.SAME_NODE:
        return _where(endpoints, lambda s: s.ready and here.node in s.nodes)
    if mode is Topology.SAME_ZONE:
        return _where(endpoints, lambda s: s.ready and here.zone in s.zones)
    return _usable(endpoints)


def _usable(endpoints: Endpoints) -> tuple[Backend, ...]:
    """The ready ones, or else those that are leaving (S-31)."""
    ready = tuple(sorted([backend for backend, standing in endpoints.items() if standing.ready]))
    return ready or _where(endpoints, lambda s: s.leaving)


def _where(endpoints: Endpoints, wanted: Callable[[Standing], bool]) -> tuple[Backend, ...]:
    return tuple(sorted([backend for backend, standing in endpoints.items() if wanted(standing)]))


def topology_mode(endpoints: Endpoints, here: Location) -> Topology:
    """One ready endpoint without a hint shows that the hints are not complete: none is followed (S-32)."""
    ready = [standing for standing in endpoints.values() if standing.ready]
    if here.node and _all_hinted([s.nodes for s in ready], here.node):
        return Topology.SAME_NODE
    if here.zone and _all_hinted([s.zones for s in ready], here.zone):
        return Topology.SAME_ZONE
    return Topology.ANY


def _all_hinted(hints: list[frozenset[str]], name: str) -> bool:
    return all(hints) and any(name in names for names in hints)
