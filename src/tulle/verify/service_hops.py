"""Where are Services and names broken? In the API, in a node's table, at an endpoint, in a DNS. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tulle.verify import hops
from tulle.verify.external import STAY
from tulle.verify.findings import (
    ANNOUNCED_ADDRESSES,
    BALANCERS,
    EXTERNAL_IPS,
    HOST_PORTS,
    NODE_PORTS,
    SERVICES,
    Finding,
    Trouble,
    Who,
)
from tulle.verify.paths import Paths
from tulle.verify.scopes import Flavour, Key, Scope, Scopes
from tulle.verify.services import LOCAL, STICKY, Facts

_ALL = "all of them"
_ONE_OF = {group: group.removesuffix("s") for group in (SERVICES, NODE_PORTS, HOST_PORTS, EXTERNAL_IPS)} | {
    BALANCERS: "load balancer's address"
}
_KIN = {"external-refusal": NODE_PORTS}
"""Besides Services: with what a refusal shares its way."""
_NO_ANSWER = frozenset(
    {
        Trouble.UNREACHED,
        Trouble.MISSING,
        Trouble.NOT_REFUSED,
        Trouble.SILENT,
        Trouble.LIBRARY,
        Trouble.HEALTH,
    }
)


@dataclass(frozen=True)
class Evidence:
    """What is known beside the findings: what the API says, which ``paths`` without a Service are broken,
    whose an address is, and how Pods are called."""

    facts: Facts
    paths: Paths
    owners: Mapping[str, str]
    who: Who


def find(found: Sequence[Finding], evidence: Evidence) -> list[str]:
    """For each finding, what is broken; empty for those that hold.

    Where it is the network below that is broken, in its very words: it is one and the same place.
    """
    scopes = Scopes(found, _keys)
    return [_hop(finding, scopes, evidence) for finding in found]


def _hop(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    if finding.ok:
        return ""
    cut = _cut(finding, evidence.paths)
    if cut and finding.trouble in _NO_ANSWER:
        return cut
    return _HOPS[finding.trouble](finding, scopes, evidence)


def _cut(finding: Finding, paths: Paths) -> str:
    """What keeps the client from everybody, or from the node that it asks."""
    source, family, protocol = str(finding.source), finding.family, finding.protocol
    cut = paths.cut_off(source, family, protocol)
    foreign = finding.entry not in ("", finding.source.node)
    return cut or (paths.to_node(source, finding.entry, family, protocol) if foreign else "")


def _keys(finding: Finding) -> Iterable[tuple[Key, bool]]:
    if finding.trouble is Trouble.NOT_ASKED:
        return
    if finding.group:
        yield (finding.group, _ALL), finding.reached
        yield (finding.group, finding.target), finding.reached
    yield (finding.statement, _ALL), finding.ok
    yield (finding.statement, finding.target), finding.ok


def _not_asked(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    source = finding.source
    return "the command that runs the probe outside" if source.outside else f"exec into {source}"


def _unreached(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    """Whether the endpoints can be reached at all; if they can, it is the table."""
    name = finding.target.partition(":")[0]
    ways = _ways(finding, evidence)
    if ways is None:
        return f"the API: it lists no ready endpoint of Service {name}"
    if (ways and all(ways)) or (any(ways) and name in (STICKY, STAY)):
        return next(filter(None, ways))
    if finding.group == ANNOUNCED_ADDRESSES:
        return f"the announcement of {finding.target} to the network: no packet for it comes back"
    return _in_table(finding, scopes, finding.group)


def _ways(finding: Finding, evidence: Evidence) -> list[str] | None:
    """For each other endpoint what is broken on the direct way to it, or nothing; None: the API has none."""
    name = finding.target.partition(":")[0]
    if finding.group == HOST_PORTS:
        return [_direct(finding, f"{finding.entry}/a", evidence)]
    listed = [each for each in evidence.facts.endpoints.get(name, ()) if each.family == finding.family]
    if name == LOCAL:
        listed = [each for each in listed if each.node == finding.source.node]
    owners = (evidence.owners.get(each.address, each.address) for each in listed)
    ways = [_direct(finding, owner, evidence) for owner in owners if owner != str(finding.source)]
    return ways if listed else None


def _in_table(finding: Finding, scopes: Scopes, group: str) -> str:
    every, this = (group, _ALL), (group, finding.target)
    placed = scopes.widest(finding, every, this)
    if placed is None:
        where = finding.entry or finding.source.node
        return f"the Service table on {where}: {finding.target} is reached only sometimes"
    scope, key = placed
    only = scopes.restriction(scope, key, _flavour(finding))
    if key == every and scope == Scope():
        proxy = "does a service proxy run on the nodes?"
        return f"no {_ONE_OF.get(group, group)} is reached from anywhere{only}: {proxy}"
    if key == every:
        return f"all {group} fail {scope}{only}, though not elsewhere"
    return f"the Service table {scope} differs from the API: it has no {finding.target}{only}"


def _missing(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    for name in finding.about:
        if name == finding.source.pod:
            return f"hairpin {_where(finding, scopes)}"
        if name not in evidence.who:
            return f"endpoint {name}: no Pod has that address, but the API lists it{_slice(name, evidence)}"
        if broken := _direct(finding, evidence.who[name], evidence):
            return broken
    lacking = ", ".join(evidence.who.get(name, name) for name in finding.about)
    if not lacking:  # each was met, but some tries fail
        broken = next(filter(None, _ways(finding, evidence) or []), "")
        return broken or f"the Service table {_where(finding, scopes)} leads to what does not answer"
    scope = _where(finding, scopes)
    return f"the Service table {scope} differs from the API: {finding.target} lacks {lacking}"


def _foreign(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    names = ", ".join(evidence.who.get(name, name) for name in finding.about)
    scope = _where(finding, scopes)
    return f"the Service table {scope} differs from the API: {finding.target} leads to {names}"


def _source(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    return hops.nat(finding.about[0], evidence.owners)


def _shown(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    return f"the way back from a Service {_where(finding, scopes)}: it does not restore the Service's address"


def _split(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    return f"session affinity {_where(finding, scopes)}"


def _not_refused(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    """Where nothing else of Services works either, that is what is broken."""
    group = _KIN.get(finding.statement, SERVICES)
    if scopes.widest(finding, (group, _ALL)):
        return _in_table(finding, scopes, group)
    return f"the Service table {_where(finding, scopes)}: it does not refuse"


def _open(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    return f"loadBalancerSourceRanges {_where(finding, scopes)}: they let in whom they do not name"


def _health(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    return f"health checks {_where(finding, scopes)}: they differ from the API"


def _no_zone(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    return "/etc/resolv.conf, which the kubelet writes: was it given the address of a cluster DNS?"


def _silent(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    key = (finding.group, _ALL)
    placed = scopes.widest(finding, key)
    if placed is None:
        return f"the {finding.group}, which answers only some questions"
    scope = placed[0]
    only = scopes.restriction(scope, key, _flavour(finding))
    if scope == Scope():
        return f"the cluster DNS: nobody gets an answer from the {finding.group}{only}; does it run?"
    return f"the {finding.group} {scope}: no answer there{only}, though elsewhere; does it run?"


def _wrong(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    """The API and the DNS differ on a name; that both are at fault is the same in all places."""
    placed = scopes.widest(finding, (finding.statement, finding.target))
    return f"the names of the {finding.group} {placed[0] if placed else ''}: they differ from the API"


def _library(finding: Finding, scopes: Scopes, evidence: Evidence) -> str:
    """Only where the DNS itself answers."""
    for scope in (Scope(), Scope(node=finding.source.node), Scope(source=str(finding.source))):
        if scopes.dead(scope, ("name-service", _ALL)):
            return f"the cluster DNS {scope}, see what it answers to the probe"
    return f"the resolver library or the search path in {finding.source}: the DNS itself answers"


_HOPS = {
    Trouble.NOT_ASKED: _not_asked,
    Trouble.UNREACHED: _unreached,
    Trouble.MISSING: _missing,
    Trouble.FOREIGN: _foreign,
    Trouble.SOURCE: _source,
    Trouble.SHOWN: _shown,
    Trouble.SPLIT: _split,
    Trouble.NOT_REFUSED: _not_refused,
    Trouble.NO_ZONE: _no_zone,
    Trouble.SILENT: _silent,
    Trouble.WRONG: _wrong,
    Trouble.LIBRARY: _library,
    Trouble.OPEN: _open,
    Trouble.HEALTH: _health,
}


def _where(finding: Finding, scopes: Scopes) -> str:
    """With what it is restricted to."""
    every, this = (finding.statement, _ALL), (finding.statement, finding.target)
    placed = scopes.widest(finding, every, this)
    if placed is None:
        return f"on {finding.entry or finding.source.node}"
    scope, key = placed
    return f"{scope}{scopes.restriction(scope, key, _flavour(finding))}"


def _flavour(finding: Finding) -> Flavour:
    return Flavour(finding.family, finding.protocol)


def _direct(finding: Finding, endpoint: str, evidence: Evidence) -> str:
    """What is broken on the way to an endpoint without a Service; empty if nothing is known to be.

    From elsewhere that is the way on from the node that was asked, and however that hands packets on; to an
    address of no node, any node may be.
    """
    source, entry = finding.source, finding.entry
    if source.outside and not entry:
        ways = (evidence.paths.on(place, endpoint) for place in evidence.who.values())
        return next(filter(None, ways), "")
    if entry not in ("", source.node):
        return evidence.paths.on(f"{entry}/host", endpoint)
    return evidence.paths.between(str(source), endpoint, finding.family, finding.protocol)


def _slice(address: str, evidence: Evidence) -> str:
    every = (each for listed in evidence.facts.endpoints.values() for each in listed)
    return next((f" in EndpointSlice {each.slice}" for each in every if each.address == address), "")
