"""Which checks prove what Kubernetes promises to clients of Services from outside. Pure.

"Outside" is a machine that is no node, if verify was told of one. Besides, every node is outside of the
others: what a Pod or a process of one asks another for comes in there like anybody's (S-47).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from tulle.verify.external import ANNOUNCED, BY_IP, CLOSED, GUARDED, ONE, OPEN, STAY, Gate
from tulle.verify.findings import ANNOUNCED_ADDRESSES, BALANCERS, EXTERNAL_IPS, HOST_PORTS, NODE_PORTS
from tulle.verify.manifests import PORT_NAME
from tulle.verify.plan import Place
from tulle.verify.service_plan import TRANSPORTS, Transport, tries_for
from tulle.verify.services import DATAGRAMS, PORT, Facts
from tulle.verify.statements import Family

Purpose = Literal["reach", "stick", "silent", "refuse", "health"]
_STICKY_TRIES: Final = 6
HOST_PORT: Final = "hostPort"
"""Stands for a Service in rows."""


@dataclass(frozen=True)
class ExternalCheck:
    """Tries from ``source`` to an address of a node (``entry``), or of a Service.

    ``wanted``: the Pods that may answer; with ``every`` all of them do in the end. ``status``: what a health
    check answers. ``own``: the Pods must see the client by its own IP.
    """

    purpose: Purpose
    statement: str
    group: str
    source: Place
    service: str
    family: Family
    transport: Transport
    address: str
    port: int
    entry: str = ""
    wanted: frozenset[str] = frozenset()
    every: bool = False
    tries: int = 1
    status: int = 0
    own: bool = False

    @property
    def target(self) -> str:
        return f"{self.service}:{self.port}"


@dataclass(frozen=True)
class Ground:
    """``outside``: clients that are on no node, one or none. ``entries``: the primary addresses of nodes.

    ``first`` is the Pod that is ``ONE``'s only endpoint, ``allowed`` are those whom ``GUARDED`` lets in.
    ``host_port`` leads to the first Pod of each node.
    """

    places: Sequence[Place]
    outside: Sequence[Place]
    families: Sequence[Family]
    entries: Mapping[str, Mapping[Family, str]]
    gates: Mapping[str, Gate]
    facts: Facts
    first: Place | None = None
    allowed: frozenset[str] = frozenset()
    host_port: int = 0

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.entries)

    def everybody(self, service: str, family: Family, transport: Transport) -> frozenset[str]:
        """The Pods behind a Service; an endpoint that is none of verify's by its address."""
        names = {a: each.pod for each in self.places if not each.host_network for a in each.addresses}
        port = PORT_NAME if transport == "tcp" else DATAGRAMS
        return frozenset(
            names.get(each.address, each.address) for each in self.facts.listed(service, family, port)
        )

    def asked(self, source: Place) -> tuple[str, ...]:
        """At which nodes: a Pod at its own and the next one, so that their number grows with the cluster's
        size and not with its square; all others at every node."""
        known = source.node in self.nodes and not source.host_network
        return self.near(source) if known else self.nodes

    def near(self, source: Place) -> tuple[str, ...]:
        """Its own node and the next one, which is the same in a cluster of one."""
        here = self.nodes.index(source.node)
        return tuple(dict.fromkeys((source.node, self.nodes[(here + 1) % len(self.nodes)])))


def plan(ground: Ground) -> list[ExternalCheck]:
    """In the families that client and Service have."""
    return [
        check
        for source in (*ground.places, *ground.outside)
        for family in ground.families
        if source.address(family)
        for check in _from(source, family, ground)
    ]


def _from(source: Place, family: Family, ground: Ground) -> Iterator[ExternalCheck]:
    for transport in TRANSPORTS:
        for entry in ground.asked(source):
            if address := ground.entries[entry].get(family):
                at = _Asking(source, family, transport, address, entry)
                for checks in (_open, _closed, _sticky, _local, _host_port):
                    yield from checks(at, ground)
        yield from _at_vips(_Asking(source, family, transport), ground)
    if source.host_network or source.outside:
        yield from _health(source, family, ground)


@dataclass(frozen=True)
class _Asking:
    """Who asks, how and where."""

    source: Place
    family: Family
    transport: Transport
    address: str = ""
    entry: str = ""

    def node_port(self, service: str, ground: Ground) -> int:
        """0: it has none that this client could ask."""
        gate = ground.gates.get(service, Gate())
        return gate.node_ports.get(self.transport, 0) if self.family in gate.families else 0

    def check(
        self,
        purpose: Purpose,
        statement: str,
        group: str,
        service: str,
        port: int,
        wanted: Iterable[str] = (),
    ) -> ExternalCheck:
        return ExternalCheck(
            *(purpose, statement, group, self.source, service, self.family, self.transport),
            address=self.address,
            port=port,
            entry=self.entry,
            wanted=frozenset(wanted),
        )


def _each(check: ExternalCheck) -> ExternalCheck:
    """So often that practically surely each endpoint has been chosen."""
    return replace(check, every=True, tries=tries_for(len(check.wanted)))


def _open(at: _Asking, ground: Ground) -> Iterator[ExternalCheck]:
    """The many tries from outside, if there is one, as their number is what takes time."""
    if port := at.node_port(OPEN, ground):
        everybody = ground.everybody(OPEN, at.family, at.transport)
        yield at.check("reach", "node-port", NODE_PORTS, OPEN, port, everybody)
        foreign = at.source.host_network and at.source.node != at.entry
        if at.source.outside or (foreign and not ground.outside):
            yield _each(at.check("reach", "node-port-endpoints", NODE_PORTS, OPEN, port, everybody))


def _closed(at: _Asking, ground: Ground) -> Iterator[ExternalCheck]:
    """S-40."""
    if port := at.node_port(CLOSED, ground):
        yield at.check("refuse", "external-refusal", NODE_PORTS, CLOSED, port)


def _sticky(at: _Asking, ground: Ground) -> Iterator[ExternalCheck]:
    """S-60. Of the nodes, each asks the next one, as their number is what takes time."""
    port = at.node_port(STAY, ground)
    if port and (at.source.outside or (at.source.host_network and ground.near(at.source)[-1] == at.entry)):
        everybody = ground.everybody(STAY, at.family, at.transport)
        check = at.check("stick", "external-affinity", NODE_PORTS, STAY, port, everybody)
        yield replace(check, tries=_STICKY_TRIES)


def _local(at: _Asking, ground: Ground) -> Iterator[ExternalCheck]:
    """S-42 to S-47."""
    port, first = at.node_port(ONE, ground), ground.first
    if not port or first is None:
        return
    if at.source.node == at.entry:
        yield at.check("reach", "external-short", NODE_PORTS, ONE, port, {first.pod})
    elif at.entry == first.node:
        yield replace(at.check("reach", "external-local", NODE_PORTS, ONE, port, {first.pod}), own=True)
    else:
        yield at.check("silent", "external-local", NODE_PORTS, ONE, port)


def _host_port(at: _Asking, ground: Ground) -> Iterator[ExternalCheck]:
    """N-10."""
    for pod in ground.places if ground.host_port else ():
        if (pod.node, pod.role) == (at.entry, "a") and pod.address(at.family):
            check = at.check("reach", "host-port", HOST_PORTS, HOST_PORT, ground.host_port, {pod.pod})
            yield replace(check, own=True)


def _at_vips(at: _Asking, ground: Ground) -> Iterator[ExternalCheck]:
    """Those that verify itself gave lead on from nodes and Pods only: nobody has a route to them."""

    def reach(statement: str, group: str, service: str, wanted: Iterable[str] = ()) -> list[ExternalCheck]:
        address = ground.gates.get(service, Gate()).vips.get(at.family)
        there = replace(at, address=address or "")
        pods = wanted or ground.everybody(service, at.family, at.transport)
        return [there.check("reach", statement, group, service, PORT, pods)] if address else []

    if at.source.outside:
        yield from map(_each, reach("load-balancer", ANNOUNCED_ADDRESSES, ANNOUNCED))
        return
    yield from reach("load-balancer", BALANCERS, OPEN)
    yield from reach("external-ip", EXTERNAL_IPS, BY_IP)
    if ground.first:
        yield from reach("external-short", BALANCERS, ONE, {ground.first.pod})
    for check in reach("source-ranges", BALANCERS, GUARDED):
        allowed = str(at.source) in ground.allowed
        yield check if allowed else replace(check, purpose="silent", wanted=frozenset())


def _health(source: Place, family: Family, ground: Ground) -> Iterator[ExternalCheck]:
    """S-62."""
    gate, first = ground.gates.get(ONE, Gate()), ground.first
    for entry in ground.nodes if gate.health and first else ():
        if first and (address := ground.entries[entry].get(family)):
            at = _Asking(source, family, "tcp", address, entry)
            check = at.check("health", "health-port", NODE_PORTS, ONE, gate.health)
            yield replace(check, status=200 if entry == first.node else 503)
