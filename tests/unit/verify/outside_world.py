"""The gates of a cluster to clients from outside, and what they see where all is well."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from networks import NODE_ADDRESSES, NODES, OWNERS, PLACES, Network, outcomes, well
from service_world import ENDPOINTS, FACTS, WHO

from tulle.verify import external_judge, external_plan, hops, service_hops
from tulle.verify.external import ANNOUNCED, BY_IP, CLOSED, GUARDED, ONE, OPEN, OPENED, STAY, Gate
from tulle.verify.external_plan import ExternalCheck, Ground
from tulle.verify.findings import Finding
from tulle.verify.judge import Answer
from tulle.verify.paths import Paths
from tulle.verify.plan import OUTSIDE, Place, family_of
from tulle.verify.service_hops import Evidence
from tulle.verify.services import Facts
from tulle.verify.statements import FAMILIES

WORLD = Place(OUTSIDE, OUTSIDE, "", 0, ("203.0.113.10", "2001:db8::10"))
ENTRIES = {node: {family_of(address): address for address in sorted(NODE_ADDRESSES[node])} for node in NODES}
BOTH = frozenset(FAMILIES)


def _gate(number: int, vip: bool = False, health: int = 0) -> Gate:
    vips = {"IPv4": f"198.51.100.{number}", "IPv6": f"2001:db8:5e1f::{number}"} if vip else {}
    return Gate(BOTH, {"tcp": 30_000 + number, "udp": 30_000 + number}, vips, health)


GATES = {
    OPEN: _gate(1, vip=True),
    CLOSED: _gate(2),
    STAY: _gate(3),
    ONE: _gate(4, vip=True, health=30_999),
    GUARDED: _gate(5, vip=True),
    BY_IP: Gate(BOTH, {}, _gate(6, vip=True).vips),
    ANNOUNCED: _gate(7, vip=True),
}
KNOWN = Facts(
    FACTS.addresses, {**FACTS.endpoints, **dict.fromkeys((*OPENED, ANNOUNCED), ENDPOINTS), ONE: ENDPOINTS[:2]}
)
GROUND = Ground(
    PLACES,
    [WORLD],
    FAMILIES,
    ENTRIES,
    GATES,
    KNOWN,
    first=PLACES[0],
    allowed=frozenset({"n1/a", "n1/host"}),
    host_port=23_457,
)
World = Callable[[ExternalCheck], Answer]


def all_well(check: ExternalCheck) -> Answer:
    if check.purpose == "refuse":
        return Answer(0, error="ECONNREFUSED")
    if check.purpose == "silent":
        return Answer(0, error="no answer")
    if check.purpose == "health":
        return Answer(0, status=check.status)
    met = check.wanted if check.every else sorted(check.wanted)[:1]
    peer = (str(check.source.address(check.family)),)
    return Answer(0, met=dict.fromkeys(met, peer), shown=(f"{check.address} {check.port}",))


def unanswered(check: ExternalCheck) -> Answer:
    if check.purpose == "refuse":
        return Answer(0, error="no answer", seconds=2.7)
    return Answer(0, error="no answer")


def found(world: World, ground: Ground = GROUND) -> list[Finding]:
    return [
        finding
        for check in external_plan.plan(ground)
        for finding in external_judge.findings(check, world(check), "", NODE_ADDRESSES, WHO)
    ]


def broken(findings: Sequence[Finding], network: Network = well) -> set[str]:
    """What the hops of all failures are; exactly those that fail have one."""
    results = outcomes(network)
    paths = Paths(results, hops.find(results, OWNERS))
    named = service_hops.find(findings, Evidence(KNOWN, paths, OWNERS, WHO))
    assert [bool(hop) for hop in named] == [not finding.ok for finding in findings]
    return set(named) - {""}
