"""Which checks prove what Kubernetes promises of Services. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tulle.verify.manifests import PORT_NAME
from tulle.verify.plan import Place
from tulle.verify.services import (
    ALL,
    DATAGRAMS,
    EMPTY,
    LOCAL,
    OTHER_PORT,
    PORT,
    STICKY,
    UNDEFINED_PORT,
    Facts,
)
from tulle.verify.statements import Family

Purpose = Literal["spread", "once", "stick", "local", "refuse"]
Transport = Literal["tcp", "udp"]
TRANSPORTS: Final[tuple[Transport, ...]] = ("tcp", "udp")
STICKY_TRIES: Final = 12
_CERTAINTY: Final = 14
"""An endpoint that is chosen like all others is missed by chance once in e to the power of this."""


@dataclass(frozen=True)
class ServiceCheck:
    """Tries from ``source`` to a Service. ``wanted``: the Pods that must answer, all of them in the end.

    An endpoint that is no Pod of verify stands there with its address.
    """

    purpose: Purpose
    source: Place
    service: str
    family: Family
    transport: Transport
    address: str
    port: int
    wanted: frozenset[str] = frozenset()
    tries: int = 1

    @property
    def target(self) -> str:
        return f"{self.service}:{self.port}"


def tries_for(endpoints: int) -> int:
    """How often to ask so that each of so many has practically surely been chosen."""
    return math.ceil(endpoints * (math.log(endpoints) + _CERTAINTY)) if endpoints else 1


def plan(places: Sequence[Place], families: Sequence[Family], facts: Facts) -> list[ServiceCheck]:
    """Every Pod and every node to every Service, in the families that both have."""
    pods = {address: each.pod for each in places if not each.host_network for address in each.addresses}
    return [
        check
        for source in places
        for family in families
        if source.address(family)
        for transport in TRANSPORTS
        for check in _from(source, family, transport, facts, pods)
    ]


def _from(
    source: Place, family: Family, transport: Transport, facts: Facts, pods: Mapping[str, str]
) -> Iterator[ServiceCheck]:
    def check(purpose: Purpose, name: str, port: int, wanted: Iterable[str] = (), tries: int = 1) -> None:
        if address := facts.addresses.get(name, {}).get(family):
            checks.append(
                ServiceCheck(
                    purpose, source, name, family, transport, address, port, frozenset(wanted), tries
                )
            )

    checks: list[ServiceCheck] = []
    port = PORT_NAME if transport == "tcp" else DATAGRAMS
    everybody = {pods.get(each.address, each.address) for each in facts.listed(ALL, family, port)}
    here = {
        pods.get(each.address, each.address)
        for each in facts.listed(LOCAL, family, port)
        if each.node == source.node
    }
    check("spread", ALL, PORT, everybody, tries_for(len(everybody)))
    if transport == "tcp":
        check("once", ALL, OTHER_PORT)
    check("stick", STICKY, PORT, tries=STICKY_TRIES)
    check("local", LOCAL, PORT, here, tries_for(len(here)))
    check("refuse", EMPTY, PORT)
    check("refuse", ALL, UNDEFINED_PORT)
    yield from checks
