"""What the kernel should do with one port of one Service. Pure values, compared to find what changed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
"""The protocols of Services, and their numbers in an IP header."""
UDP = PROTOCOLS["UDP"]


class OnEmpty(Enum):
    """What happens to a new connection where there is no backend (S-40, S-41)."""

    REJECT = "reject"
    """No endpoint anywhere: the client is told at once."""
    DROP = "drop"
    """The traffic policy keeps it from endpoints that exist elsewhere."""


class Backend(NamedTuple):
    """Where a connection may end. ``address``: 16 bytes, IPv4 as ``::ffff:a.b.c.d``."""

    address: bytes
    port: int


class Frontend(NamedTuple):
    """What a client connects to. ``protocol``: 6 (TCP), 17 (UDP) or 132 (SCTP)."""

    address: bytes
    port: int
    protocol: int


@dataclass(frozen=True, slots=True)
class PortPlan:
    """One (Service, port, family), with the frontends that share one set of backends.

    ``backends`` get new connections, each with equal probability (S-36). ``serving`` are those whose old
    UDP flows go on (S-65); it is empty for other protocols, and when there are none: then nothing is
    ended. Both are sorted, without duplicates. ``affinity`` is in seconds, 0 for none (S-60).
    """

    service: tuple[str, str]
    port: str
    protocol: int
    family: int
    frontends: tuple[Frontend, ...]
    backends: tuple[Backend, ...]
    serving: tuple[Backend, ...]
    affinity: int
    on_empty: OnEmpty


class Problem(NamedTuple):
    """What an object says that cannot be right: it is left out, everything else goes on.

    ``kind`` and ``key`` (namespace, name) tell the object, ``field`` the place in it; ``message`` says what
    stands there and what would be right.
    """

    kind: str
    key: tuple[str, str]
    field: str
    message: str


class ServicePlan(NamedTuple):
    """All ports of a Service, in the order of its ``spec``, IPv4 and IPv6 apart."""

    ports: tuple[PortPlan, ...] = ()
    problems: tuple[Problem, ...] = ()
