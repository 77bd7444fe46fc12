"""What the DNS server does with a name, as frozen values: where it is asked, how long it is kept. No I/O.

A :class:`Scope` is what a Corefile calls a server block: the zone, and what happens to names in it. A name
belongs to the scope with the longest zone that covers it (D-23).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_address
from typing import Final, Literal, NamedTuple

from tulle.dns.names import ROOT, suffixes, to_wire, within

Policy = Literal["random", "round_robin", "sequential"]
Pods = Literal["insecure", "verified", "disabled"]

DNS_PORT: Final = 53
MOST_UPSTREAMS: Final = 15
"""CoreDNS takes no more in one ``forward``."""


_BRACKETS: Final = re.compile(r"\[([^\]]+)\](?::([0-9]{1,9}))?")
_ONE_COLON: Final = re.compile(r"([^:\[]+):([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something in a source is not used as it stands; for an Event and a metric.

    ``source`` is where it is written, ``line`` counts from 1 (0: the source as a whole). With ``fatal``
    the whole source cannot be used, and the last good one goes on counting.
    """

    source: str
    line: int
    reason: str
    fatal: bool = False

    def __str__(self) -> str:
        where = f"{self.source}, line {self.line}" if self.line else self.source
        return f"{where}: {self.reason}"


class BadSource(Exception):
    """Carries the problem for which a source cannot be used; caught where sources are put together."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Endpoint(NamedTuple):
    """An upstream's address in its shortest spelling, with a zone (``fe80::1%eth0``) where it has one."""

    address: str
    port: int = DNS_PORT

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def parse_endpoint(text: str, port: int = DNS_PORT) -> Endpoint:
    """``10.0.0.1``, ``10.0.0.1:53``, ``fd00::1``, ``[fd00::1]:53``. Raises ``ValueError``."""
    match = _BRACKETS.fullmatch(text) or _ONE_COLON.fullmatch(text)
    host, number = match.groups() if match else (text, None)
    if number is not None and not 0 < int(number) < 65536:
        raise ValueError(f"the port of {text!r} cannot be right; give 1 to 65535")
    try:
        address = str(ip_address(host))
    except ValueError:
        raise ValueError(f"{text!r} is no address; give 10.0.0.1, 10.0.0.1:53 or [fd00::1]:53") from None
    return Endpoint(address, int(number) if number else port)


@dataclass(frozen=True, slots=True)
class Prefetch:
    """A name asked ``amount`` times without a gap of ``window`` seconds is fetched again when less than
    ``share`` of its life is left. ``amount`` 0: never.
    """

    amount: int = 2
    window: float = 60.0
    share: float = 0.1


@dataclass(frozen=True, slots=True)
class CachePlan:
    """Seconds and numbers of entries. The zones are those whose answers are kept.

    An expired answer is given for ``stale`` seconds more when no upstream answers (RFC 8767); with
    ``stale_first`` at once, while the new one is fetched.
    """

    success_ttl: int = 30
    denial_ttl: int = 30
    success_least: int = 0
    denial_least: int = 0
    success_entries: int = 9984
    denial_entries: int = 9984
    prefetch: Prefetch = Prefetch()
    stale: float = 3600.0
    stale_first: bool = False
    zones: tuple[bytes, ...] = (ROOT,)
    success_off: tuple[bytes, ...] = ()
    denial_off: tuple[bytes, ...] = ()

    def keeps(self, name: bytes, denial: bool) -> bool:
        """Whether an answer for the name is kept; a lower-case wire name."""
        off = self.denial_off if denial else self.success_off
        return any(within(name, zone) for zone in self.zones) and not any(within(name, zone) for zone in off)


@dataclass(frozen=True, slots=True)
class Forward:
    """Upstreams for the names below ``zone`` that are not below one of ``excluded``. Times in seconds.

    An upstream that is silent for ``patience`` is not waited for alone; at the ``deadline`` the client gets
    SERVFAIL (D-23).
    """

    upstreams: tuple[Endpoint, ...]
    zone: bytes = ROOT
    excluded: tuple[bytes, ...] = ()
    policy: Policy = "random"
    max_concurrent: int = 1000
    expire: float = 10.0
    force_tcp: bool = False
    health_interval: float = 0.5
    max_fails: int = 2
    patience: float = 0.6
    deadline: float = 2.0

    def covers(self, name: bytes) -> bool:
        """Whether this is for the name; a lower-case wire name."""
        return within(name, self.zone) and not any(within(name, zone) for zone in self.excluded)

    def without(self, own: Set[Endpoint]) -> Forward:
        """The same without these upstreams."""
        return replace(self, upstreams=tuple(to for to in self.upstreams if to not in own))


@dataclass(frozen=True, slots=True)
class Hosts:
    """Names with fixed addresses (packed, 4 or 16 bytes). ``through`` are the zones that go on to the next
    step when the name is not here; outside them the answer is NXDOMAIN.
    """

    addresses: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    ttl: int = 3600
    reverse: bool = True
    zones: tuple[bytes, ...] = (ROOT,)
    through: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A name that is ``old`` (or below it, for ``suffix``) is answered as if ``new`` had been asked.

    For ``suffix`` both may begin in the middle of a label, so they are text without the trailing dot.
    With ``stop`` no later rule is looked at.
    """

    kind: Literal["exact", "suffix"]
    old: str
    new: str
    stop: bool = True


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a Corefile says about the names of the cluster itself; ``None`` where it says nothing."""

    zones: tuple[bytes, ...]
    pods: Pods = "disabled"
    ttl: int = 5
    through: tuple[bytes, ...] = ()
    endpoint_pod_names: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What happens to names below ``zone``, in the order rewrites, hosts, cluster, cache, forwards."""

    zone: bytes = ROOT
    forwards: tuple[Forward, ...] = ()
    cache: CachePlan | None = field(default_factory=CachePlan)
    hosts: Hosts | None = None
    rewrites: tuple[Rewrite, ...] = ()
    cluster: Cluster | None = None
    log: bool = False
    loadbalance: bool = True

    def forward(self, name: bytes) -> Forward | None:
        """The one for this name: the first that covers it, with the longest zone."""
        fitting = [forward for forward in self.forwards if forward.covers(name)]
        return max(fitting, key=lambda forward: len(forward.zone), default=None)


@dataclass(frozen=True)
class Config:
    """Everything; ``problems`` says what of the sources is not used, and why."""

    scopes: tuple[Scope, ...] = (Scope(),)
    problems: tuple[Problem, ...] = ()

    @cached_property
    def _by_zone(self) -> dict[bytes, Scope]:
        return {scope.zone: scope for scope in reversed(self.scopes)}

    def scope(self, name: bytes) -> Scope | None:
        """The one with the longest zone that covers this lower-case wire name."""
        by_zone = self._by_zone
        return next((by_zone[zone] for zone in suffixes(name) if zone in by_zone), None)

    @property
    def cluster(self) -> Cluster | None:
        """The first ``kubernetes`` of a Corefile, if there is one."""
        return next((scope.cluster for scope in self.scopes if scope.cluster), None)

    def without(self, own: Set[Endpoint]) -> Config:
        """No name is asked of this server itself, which would ask itself for ever; reported."""
        looping = {to for scope in self.scopes for one in scope.forwards for to in one.upstreams if to in own}
        if not looping:
            return self
        scopes = tuple(
            replace(scope, forwards=tuple(forward.without(own) for forward in scope.forwards))
            for scope in self.scopes
        )
        found = [
            Problem("upstreams", 0, f"{to} is this server itself; it is left out") for to in sorted(looping)
        ]
        return replace(self, scopes=scopes, problems=(*self.problems, *found))

    def with_stubs(self, stubs: Mapping[str, tuple[Endpoint, ...]]) -> Config:
        """Names below a stub domain are asked of its upstreams only, whatever a Corefile says of them."""
        added = tuple(Scope(to_wire(domain), (Forward(to),)) for domain, to in stubs.items())
        zones = {scope.zone for scope in added}
        kept = tuple(scope for scope in self.scopes if scope.zone not in zones)
        return replace(self, scopes=kept + added)

    def with_upstreams(self, upstreams: tuple[Endpoint, ...]) -> Config:
        """All names without a scope of their own are asked of these."""
        root = next((scope for scope in self.scopes if scope.zone == ROOT), Scope())
        rest = tuple(scope for scope in self.scopes if scope.zone != ROOT)
        return replace(self, scopes=(replace(root, forwards=(Forward(upstreams),)), *rest))
