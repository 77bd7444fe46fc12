"""Which questions prove what Kubernetes promises of names (D-02 to D-09, D-22). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tulle.verify.judge import Resolver
from tulle.verify.manifests import MAIN_PORT, PORT_NAME
from tulle.verify.plan import Place, family_of
from tulle.verify.service_plan import TRANSPORTS
from tulle.verify.services import ALL, EXTERNAL, HEADLESS, PORT, Facts, Listed
from tulle.verify.statements import Family

ADDRESS_TYPE: Final[dict[Family, str]] = {"IPv4": "A", "IPv6": "AAAA"}
DNS_PORT: Final = 53


@dataclass(frozen=True)
class Record:
    """A question, and the records that answer it; none: such a name does not exist.

    ``short`` is how people speak of it, within the namespace.
    """

    statement: str
    type: str
    name: str
    short: str
    wanted: frozenset[str]


@dataclass(frozen=True)
class NameCheck:
    """One question from ``source``. Without ``server`` it is one for the resolver library."""

    record: Record
    source: Place
    family: Family | None
    transport: str = ""
    server: str = ""

    @property
    def target(self) -> str:
        return f"{self.record.type} {self.record.short}".strip()


def plan(
    places: Sequence[Place],
    families: Sequence[Family],
    resolvers: Mapping[str, Resolver],
    records: Sequence[Record],
) -> list[NameCheck]:
    """Every record from everywhere: at each server, over UDP and TCP. ``resolvers`` are by Pod."""
    checks: list[NameCheck] = []
    for source in places:
        servers = [
            (server, family_of(server))
            for server in resolvers.get(source.pod, Resolver()).servers
            if family_of(server) in families
        ]
        for record in records:
            if record.statement == "name-library":
                checks.append(NameCheck(record, source, None))
                continue
            checks += [
                NameCheck(record, source, family, transport, server)
                for server, family in servers
                for transport in TRANSPORTS
            ]
    return checks


def external_target(namespace: str, zone: str) -> str:
    """Where the ExternalName leads: a name of the cluster, as not every cluster sees the world."""
    return f"{ALL}.{namespace}.svc.{zone}"


def records(facts: Facts, families: Sequence[Family], namespace: str, zone: str) -> list[Record]:
    """What the specification derives from the API's objects, and asks of a name that nobody has."""
    names = _Names(f"{namespace}.svc.{zone}", facts, families)
    missing = Record("name-missing", "A", names.full("missing"), "missing", frozenset())
    return [
        *names.addresses(),
        *names.ports(),
        *names.reverse(),
        *names.external(),
        missing,
        *names.library(namespace, zone),
    ]


class _Names:
    def __init__(self, domain: str, facts: Facts, families: Sequence[Family]) -> None:
        self._domain = domain
        self._facts = facts
        self._families = families
        self._ips = {f: ip for f, ip in facts.addresses.get(ALL, {}).items() if f in families}

    def full(self, name: str) -> str:
        return f"{name}.{self._domain}."

    def _endpoints(self, family: Family) -> tuple[Listed, ...]:
        return self._facts.listed(HEADLESS, family)

    def _record(self, statement: str, kind: str, name: str, *data: str) -> Record:
        wanted = frozenset(f"{kind} {each}" for each in data)
        return Record(statement, kind, self.full(name), name, wanted)

    def addresses(self) -> Iterator[Record]:
        """D-02, D-05 and D-06; of the headless Service's endpoints, one by its own name."""
        for family, ip in self._ips.items():
            yield self._record("name-service", ADDRESS_TYPE[family], ALL, ip)
        for family in self._families:
            endpoints = self._endpoints(family)
            if not endpoints:
                continue
            kind, every = ADDRESS_TYPE[family], [each.address for each in endpoints]
            yield self._record("name-headless", kind, HEADLESS, *every)
            if first := _first_with_name(endpoints):
                yield self._record("name-headless", kind, f"{first.hostname}.{HEADLESS}", first.address)

    def ports(self) -> Iterator[Record]:
        """D-03 and D-07."""
        if self._ips:
            yield self._record("name-srv", "SRV", f"_{PORT_NAME}._tcp.{ALL}", f"{PORT} {self.full(ALL)}")
        members = [each for family in self._families for each in self._endpoints(family)]
        if members and all(each.hostname for each in members):
            data = {f"{MAIN_PORT} {self.full(f'{each.hostname}.{HEADLESS}')}" for each in members}
            yield self._record("name-srv", "SRV", f"_{PORT_NAME}._tcp.{HEADLESS}", *data)

    def reverse(self) -> Iterator[Record]:
        """D-04 and D-08."""
        for ip in self._ips.values():
            yield _pointer(ip, ALL, self.full(ALL))
        for family in self._families:
            if first := _first_with_name(self._endpoints(family)):
                own = f"{first.hostname}.{HEADLESS}"
                yield _pointer(first.address, own, self.full(own))

    def external(self) -> Iterator[Record]:
        """D-09: the other name alone when that is asked for, else what it leads to as well."""
        target = f"CNAME {self.full(ALL)}"
        if EXTERNAL in self._facts.addresses:
            yield Record("name-external", "CNAME", self.full(EXTERNAL), EXTERNAL, frozenset({target}))
            for family, ip in self._ips.items():
                kind = ADDRESS_TYPE[family]
                wanted = frozenset({target, f"{kind} {ip}"})
                yield Record("name-external", kind, self.full(EXTERNAL), EXTERNAL, wanted)

    def library(self, namespace: str, zone: str) -> Iterator[Record]:
        """D-22: as people write names, from the shortest on."""
        every = frozenset(self._ips.values())
        for name in (ALL, f"{ALL}.{namespace}", f"{ALL}.{namespace}.svc", f"{ALL}.{namespace}.svc.{zone}."):
            if every:
                yield Record("name-library", "", name, name.replace(f".{namespace}", ".NAMESPACE"), every)
        members = {each.address for family in self._families for each in self._endpoints(family)}
        if members:
            yield Record("name-library", "", HEADLESS, HEADLESS, frozenset(members))


def _first_with_name(endpoints: Sequence[Listed]) -> Listed | None:
    return min((each for each in endpoints if each.hostname), key=lambda e: e.hostname, default=None)


def _pointer(address: str, short: str, full: str) -> Record:
    name = f"{ipaddress.ip_address(address).reverse_pointer}."
    return Record("name-ptr", "PTR", name, short, frozenset({f"PTR {full}"}))
