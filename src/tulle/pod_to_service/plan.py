"""What the kernel should do with one port of one Service. Pure values, compared to find what changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from tulle.model.address import Network, to_bytes

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
"""The protocols of Services, and their numbers in an IP header."""
UDP = PROTOCOLS["UDP"]


class OnEmpty(Enum):
    """What happens to a new connection where there is no backend (S-40 to S-42)."""

    REJECT = "reject"
    """No endpoint anywhere: the client is told at once."""
    DROP = "drop"
    """The traffic policy keeps it from endpoints that exist elsewhere."""


class Backend(NamedTuple):
    """Where a connection may end. ``address``: 16 bytes, IPv4 as ``::ffff:a.b.c.d``."""

    address: bytes
    port: int


class Traffic(StrEnum):
    """Which of the two sets of ``CategorizeEndpoints`` a connection is led by (S-30): that of its policy."""

    CLUSTER = "cluster"
    LOCAL = "local"


class Scope(StrEnum):
    """Which addresses a frontend stands for (``enum frontend_scope`` in ``bpf/contract.h``)."""

    ADDRESS = "address"
    """The one that it names."""
    NODE_PORT = "node port"
    """Those of the node that ``nodePortAddresses`` selects."""
    HOST_PORT = "host port"
    """All of the node, loopback, too."""


class Frontend(NamedTuple):
    """What a client connects to. ``protocol``: 6 (TCP), 17 (UDP) or 132 (SCTP).

    ``address``: 16 bytes, of ``NODE_PORT`` and ``HOST_PORT`` those of ``ANY_ADDRESS``.
    """

    address: bytes
    port: int
    protocol: int
    scope: Scope = Scope.ADDRESS


ANY_ADDRESS = {4: to_bytes(IPv4Address(0)), 6: to_bytes(IPv6Address(0))}
"""How a frontend names all addresses of a family."""


class Kind(StrEnum):
    """What a lead is to those who ask for it."""

    CLUSTER_IP = "ClusterIP"
    """Other ports of the address are refused (S-29); if the node itself has it, it is left to the node."""
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    """Clients outside are refused other ports of it, unless the node itself has the address."""
    EXTERNAL_IP = "externalIP"
    HOST_PORT = "hostPort"


class Lead(NamedTuple):
    """One frontend and whom it leads to: whoever is on this node ``inside`` (S-45, S-46), others
    ``outside``, be it a Pod of another node (S-47). Only clients in ``sources`` are let in (S-61); None: all.
    """

    frontend: Frontend
    kind: Kind
    inside: Traffic
    outside: Traffic
    sources: tuple[Network, ...] | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom a connection may go to.

    ``backends`` get new connections, each with equal probability (S-36). ``serving`` are those whose old
    UDP flows go on (S-65); it is empty for other protocols, and when there are none: then nothing is
    ended. Both are sorted, without duplicates.
    """

    backends: tuple[Backend, ...]
    serving: tuple[Backend, ...] = ()
    on_empty: OnEmpty = OnEmpty.REJECT


@dataclass(frozen=True, slots=True)
class PortPlan:
    """One port in one family, with all that leads to it.

    ``service`` is whose it is: (namespace, name) of a Service. ``affinity`` is in seconds, 0 for none, and
    one for all frontends (S-60). ``cluster`` and ``local`` are None where no lead leads to them.
    """

    service: tuple[str, str]
    port: str
    protocol: int
    family: int
    affinity: int
    leads: tuple[Lead, ...]
    cluster: Choice | None = None
    local: Choice | None = None

    @property
    def frontends(self) -> tuple[Frontend, ...]:
        return tuple([lead.frontend for lead in self.leads])

    @property
    def choices(self) -> dict[Traffic, Choice]:
        """Those that there are."""
        both = {Traffic.CLUSTER: self.cluster, Traffic.LOCAL: self.local}
        return {traffic: choice for traffic, choice in both.items() if choice}

    def with_leads(self, leads: tuple[Lead, ...]) -> PortPlan:
        """The same with fewer leads, and without the choice that none of them leads to."""
        used = {traffic for lead in leads for traffic in (lead.inside, lead.outside)}
        return replace(
            self,
            leads=leads,
            cluster=self.cluster if Traffic.CLUSTER in used else None,
            local=self.local if Traffic.LOCAL in used else None,
        )


class Problem(NamedTuple):
    """What an object says that cannot be right: it is left out, everything else goes on.

    ``kind`` and ``key`` (namespace, name) tell the object, ``field`` the place in it; ``message`` says what
    stands there and what would be right. ``uid`` is the object's, where it is known and matters.
    """

    kind: str
    key: tuple[str, str]
    field: str
    message: str
    uid: str = ""


class ServicePlan(NamedTuple):
    """All ports of a Service, in the order of its ``spec``, IPv4 and IPv6 apart."""

    ports: tuple[PortPlan, ...] = ()
    problems: tuple[Problem, ...] = ()
