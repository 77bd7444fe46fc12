"""Which checks prove the model on a given set of Pods. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tulle.verify.statements import TRAFFIC, Family, Protocol

MAIN: Final = "main"
SECOND: Final = "second"
OUTSIDE: Final = "outside"
"""The node of a client that is on none."""
LOOPBACK: Final[dict[Family, str]] = {"IPv4": "127.0.0.1", "IPv6": "::1"}
EVERYWHERE: Final[dict[Family, str]] = {"IPv4": "0.0.0.0", "IPv6": "::"}


@dataclass(frozen=True)
class Place:
    """One of verify's Pods. ``role`` tells the Pods of a node apart; ``host`` is the host-network one.

    ``packets``: Services are done for its packets, not at its sockets, if the network knows both ways.
    A client outside the cluster is a place, too: it has no role, and its node is ``OUTSIDE``.
    """

    pod: str
    node: str
    role: str
    port: int
    addresses: tuple[str, ...]
    containers: tuple[str, ...] = (MAIN,)
    host_network: bool = False
    packets: bool = False

    def __str__(self) -> str:
        return f"{self.node}/{self.role}" if self.role else self.node

    @property
    def outside(self) -> bool:
        """It is no Pod, and on no node."""
        return not self.role

    def address(self, family: Family) -> str | None:
        """Its first address of a family."""
        return next((address for address in self.addresses if family_of(address) == family), None)


@dataclass(frozen=True)
class Check:
    """One exchange: from a container of ``source`` to ``address``, where ``target`` should answer."""

    statement: str
    source: Place
    container: str
    target: Place
    family: Family
    protocol: Protocol
    address: str


def family_of(address: str) -> Family:
    return "IPv6" if ipaddress.ip_address(address).version == 6 else "IPv4"


def families_of(places: Iterable[Place]) -> tuple[Family, ...]:
    """The families that any of the ordinary Pods has an address of, IPv4 first."""
    pods = (place for place in places if not place.host_network)
    return tuple(sorted({family_of(address) for place in pods for address in place.addresses}))


def plan(places: Sequence[Place], families: Sequence[Family]) -> list[Check]:
    """Every Pod to every other, and each second container to the first."""
    checks: list[Check] = []
    for source in places:
        for family in families:
            checks += _within(source, family)
            for target in places:
                checks += _between(source, target, family)
    return checks


def _within(place: Place, family: Family) -> Iterator[Check]:
    """N-01: the containers of a Pod share ``lo``. Only in families that the Pod has."""
    if SECOND in place.containers and place.address(family):
        for protocol in TRAFFIC:
            yield Check("localhost", place, SECOND, place, family, protocol, LOOPBACK[family])


def _between(source: Place, target: Place, family: Family) -> Iterator[Check]:
    statement, address = _statement(source, target), target.address(family)
    if statement is None or address is None or source.address(family) is None:
        return
    for protocol in TRAFFIC:
        yield Check(statement, source, MAIN, target, family, protocol, address)


def _statement(source: Place, target: Place) -> str | None:
    """Which sentence speaks of this pair; none does of nodes among themselves."""
    same_node = source.node == target.node
    if source is target or (source.host_network and target.host_network):
        return None
    if source.host_network:
        return "node-to-pod" if same_node else "host-to-pod"
    if target.host_network:
        return "pod-to-host"
    return "pod-to-pod-same-node" if same_node else "pod-to-pod"
