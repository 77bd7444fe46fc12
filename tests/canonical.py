"""Whom a client of a Service may reach, told from the rules alone (BEHAVIOURS S-40 to S-48, S-60, S-61).

Not from Tulle's code: this is what planner, programs and whole clusters are held against. ``CANONICAL`` are
kube-proxy's 27 flows as they stand in its own test, ``TestInternalExternalMasquerade`` (BEHAVIOURS 1(b).7).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address, ip_network
from itertools import product


class Source(Enum):
    """Who asks a node, as the node sees it."""

    POD = "a Pod of the node"
    NODE = "the node itself"
    OUTSIDE = "somebody outside the cluster"
    OTHER = "a Pod of another node"
    """Without a LocalTrafficDetector kube-proxy takes every Pod for one: S-47."""

    @property
    def from_here(self) -> bool:
        return self in (Source.POD, Source.NODE)


class Door(Enum):
    """Where a Service is asked for."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    BALANCER = "load balancer's address"
    EXTERNAL_IP = "external IP"


class State(Enum):
    """Of an endpoint."""

    READY = "ready"
    LEAVING = "terminating, and still serving"
    DOWN = "not ready"


class Fate(Enum):
    """What becomes of a client who meets nobody."""

    REFUSED = "refused"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Policies:
    internal_local: bool = False
    external_local: bool = False

    def __str__(self) -> str:
        local = [word for word, yes in (("iTP", self.internal_local), ("eTP", self.external_local)) if yes]
        return f"{' and '.join(local)} Local" if local else "default policies"


Outcome = frozenset[str] | Fate
"""The endpoints that may answer, by name, or what happens instead."""
HERE, ELSEWHERE = "L", "R"


def outcome(policies: Policies, source: Source, door: Door, endpoints: Mapping[str, State]) -> Outcome:
    """``endpoints``: those whose names begin with L are on the node that is asked."""
    if door is Door.CLUSTER_IP:
        local = policies.internal_local
    else:
        local = policies.external_local and not source.from_here
    used = usable({name: s for name, s in endpoints.items() if not local or name.startswith(HERE)})
    if used:
        return used
    return Fate.DROPPED if usable(endpoints) else Fate.REFUSED


def usable(endpoints: Mapping[str, State]) -> frozenset[str]:
    """S-31: who leaves is good enough where nobody else is."""
    by_state = {s: frozenset(name for name, state in endpoints.items() if state is s) for s in State}
    return by_state[State.READY] or by_state[State.LEAVING]


def may_differ(policies: Policies, source: Source, door: Door) -> bool:
    """kube-proxy's M: an endpoint may see another address than the client's own (S-43, S-46, S-50).

    Tulle never makes use of that: a node that is masqueraded has its own address, too.
    """
    if door is Door.CLUSTER_IP:
        return source is not Source.POD
    return source is Source.NODE or not policies.external_local


def let_in(ranges: tuple[str, ...], client: str, door: Door) -> bool:
    """S-61."""
    if not ranges or door is not Door.BALANCER:
        return True
    return any(ip_address(client) in ip_network(each) for each in ranges)


ANY, LOCAL = frozenset({"L", "R"}), frozenset({"L"})
_DEFAULT, _EXTERNAL, _INTERNAL = Policies(), Policies(external_local=True), Policies(internal_local=True)
_COLUMNS = (Door.CLUSTER_IP, Door.NODE_PORT, Door.BALANCER)
_ROWS = {
    (_DEFAULT, Source.POD): ((ANY, False), (ANY, True), (ANY, True)),
    (_DEFAULT, Source.NODE): ((ANY, True), (ANY, True), (ANY, True)),
    (_DEFAULT, Source.OUTSIDE): ((ANY, True), (ANY, True), (ANY, True)),
    (_EXTERNAL, Source.POD): ((ANY, False), (ANY, False), (ANY, False)),
    (_EXTERNAL, Source.NODE): ((ANY, True), (ANY, True), (ANY, True)),
    (_EXTERNAL, Source.OUTSIDE): ((ANY, True), (LOCAL, False), (LOCAL, False)),
    (_INTERNAL, Source.POD): ((LOCAL, False), (ANY, True), (ANY, True)),
    (_INTERNAL, Source.NODE): ((LOCAL, True), (ANY, True), (ANY, True)),
    (_INTERNAL, Source.OUTSIDE): ((LOCAL, True), (ANY, True), (ANY, True)),
}
CANONICAL = {
    (policies, source, door): cell
    for (policies, source), cells in _ROWS.items()
    for door, cell in zip(_COLUMNS, cells, strict=True)
}
"""(who may answer, M) with both endpoints ready, as kube-proxy's test has it."""

EVERY_POLICY = [Policies(*both) for both in product((False, True), repeat=2)]
EVERY_STATE: list[dict[str, State]] = [
    {name: state for name, state in zip((HERE, ELSEWHERE), states, strict=True) if state}
    for states in product((*State, None), repeat=2)
]
"""Each endpoint ready, leaving, down, or not there."""
