"""The Services of verify on the three nodes of ``networks``, and what is seen where all is well."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from networks import NODE_ADDRESSES, OWNERS, PLACES, Network, outcomes, well

from tulle.verify import hops, name_judge, name_plan, service_hops, service_judge, service_plan
from tulle.verify.findings import Finding
from tulle.verify.judge import Answer, Resolver
from tulle.verify.name_plan import NameCheck
from tulle.verify.paths import Paths
from tulle.verify.plan import family_of
from tulle.verify.service_hops import Evidence
from tulle.verify.service_plan import ServiceCheck
from tulle.verify.services import ALL, EMPTY, EXTERNAL, HEADLESS, LOCAL, STICKY, Facts, Listed
from tulle.verify.statements import FAMILIES

NAMESPACE, ZONE = "space", "cluster.test"
PODS = [place for place in PLACES if not place.host_network]
WHO = {place.pod: str(place) for place in PLACES}
PORTS = frozenset({"main", "datagrams"})
ENDPOINTS = tuple(
    Listed(family_of(address), address, place.node, place.pod, "s-1", PORTS)
    for place in PODS
    for address in place.addresses
)
DNS = {"IPv4": "10.96.0.10", "IPv6": "fd00:96::a"}
FACTS = Facts(
    {
        ALL: {"IPv4": "10.96.0.1", "IPv6": "fd00:96::1"},
        STICKY: {"IPv4": "10.96.0.2", "IPv6": "fd00:96::2"},
        LOCAL: {"IPv4": "10.96.0.3", "IPv6": "fd00:96::3"},
        EMPTY: {"IPv4": "10.96.0.4", "IPv6": "fd00:96::4"},
        HEADLESS: {},
        EXTERNAL: {},
    },
    dict.fromkeys((ALL, STICKY, LOCAL, HEADLESS), ENDPOINTS),
)
RESOLVER = Resolver(tuple(DNS.values()), (f"{NAMESPACE}.svc.{ZONE}", f"svc.{ZONE}", ZONE))

Check = ServiceCheck | NameCheck
World = Callable[[Check], Answer]


def all_well(check: Check) -> Answer:
    """The answer of a cluster that keeps its promises."""
    if isinstance(check, NameCheck):
        code = "NOERROR" if check.record.wanted else "NXDOMAIN"
        return Answer(0, rcode=code, records=tuple(sorted(check.record.wanted)))
    if check.purpose == "refuse":
        return Answer(0, error="ECONNREFUSED")
    met = check.wanted or frozenset({"a-1"})
    peer = (str(check.source.address(check.family)),)
    return Answer(0, met=dict.fromkeys(met, peer), shown=(f"{check.address} {check.port}",))


def unanswered(check: Check) -> Answer:
    return Answer(0, error="no answer")


def checks(facts: Facts = FACTS) -> list[Check]:
    records = name_plan.records(facts, FAMILIES, NAMESPACE, ZONE)
    resolvers = {place.pod: RESOLVER for place in PLACES}
    names = name_plan.plan(PLACES, FAMILIES, resolvers, records)
    return [*service_plan.plan(PLACES, FAMILIES, facts), *names]


def found(world: World, facts: Facts = FACTS) -> list[Finding]:
    everything: list[Finding] = []
    for check in checks(facts):
        if isinstance(check, ServiceCheck):
            everything += service_judge.findings(check, world(check), "", NODE_ADDRESSES, WHO)
        else:
            everything.append(name_judge.finding(check, world(check), ""))
    return everything


def broken(findings: Sequence[Finding], network: Network = well, facts: Facts = FACTS) -> set[str]:
    """What the hops of all failures are; exactly those that fail have one."""
    results = outcomes(network)
    paths = Paths(results, hops.find(results, OWNERS))
    named = service_hops.find(findings, Evidence(facts, paths, OWNERS, WHO))
    assert [bool(hop) for hop in named] == [not finding.ok for finding in findings]
    return set(named) - {""}
