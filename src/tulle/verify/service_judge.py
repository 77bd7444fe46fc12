"""What the answers of Services mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tulle.verify.findings import AT_ONCE, MOST_NAMED, SERVICES, Finding, Trouble, Who, named, shown
from tulle.verify.judge import Answer, NodeAddresses, Row
from tulle.verify.plan import Place
from tulle.verify.service_plan import ServiceCheck
from tulle.verify.services import SELECTING, Facts
from tulle.verify.statements import STATEMENTS, Family

_REFUSED = "ECONNREFUSED"
_OF_PURPOSE = {"spread": "service-endpoints", "stick": "affinity", "local": "local"}


def findings(
    check: ServiceCheck, answer: Answer | None, failure: str, nodes: NodeAddresses, who: Who
) -> Iterator[Finding]:
    """One per sentence that the check tells of; ``failure`` is why there is no answer at all."""
    if check.purpose == "refuse":
        yield _refusal(check, answer, failure)
        return
    spoken = ["service", *_spoken(check)]
    if answer is None or not answer.met:
        trouble = Trouble.NOT_ASKED if answer is None else Trouble.UNREACHED
        seen = failure or "no report" if answer is None else str(answer.error)
        for statement in spoken:
            yield _finding(check, statement, "an endpoint answers", seen, trouble)
        return
    for statement in spoken:
        yield _JUDGES[statement](check, answer, nodes, who)


def _spoken(check: ServiceCheck) -> Iterator[str]:
    """The sentences beside that on reaching it."""
    if check.purpose in _OF_PURPOSE:
        yield _OF_PURPOSE[check.purpose]
    if check.purpose == "spread" and check.source.pod in check.wanted:
        yield "hairpin"
    yield "service-shown"
    yield "service-source"


def _finding(
    check: ServiceCheck,
    statement: str,
    expected: str,
    seen: str,
    trouble: Trouble = Trouble.NONE,
    about: Iterable[str] = (),
) -> Finding:
    return Finding(
        statement=statement,
        source=check.source,
        target=check.target,
        family=check.family,
        protocol=check.transport,
        group="" if check.purpose == "refuse" else SERVICES,
        expected=expected,
        seen=seen,
        trouble=trouble,
        about=tuple(sorted(about)),
    )


def _reached(check: ServiceCheck, answer: Answer, nodes: NodeAddresses, who: Who) -> Finding:
    """That an endpoint which is never met is also a try that fails says the next sentence."""
    absent = bool(check.wanted - answer.met.keys())
    if answer.failed and not absent:
        seen = f"{answer.failed} tries fail, with {answer.error}"
        return _finding(check, "service", "an endpoint answers", seen, Trouble.MISSING)
    return _finding(check, "service", "an endpoint answers", f"{named(answer.met, who)} answer")


def _all_met(check: ServiceCheck, answer: Answer, nodes: NodeAddresses, who: Who) -> Finding:
    """Exactly those that the API lists; that the client itself is among them says another sentence."""
    statement = _OF_PURPOSE[check.purpose]
    apart = {check.source.pod} if check.purpose == "spread" else set()
    missing = check.wanted - answer.met.keys() - apart
    foreign = answer.met.keys() - check.wanted
    if foreign:
        seen = f"{named(foreign, who)} too"
        return _finding(check, statement, f"{named(check.wanted, who)}", seen, Trouble.FOREIGN, foreign)
    seen = f"{len(answer.met)} answer"
    if missing:
        seen = f"never {named(missing, who)}" + (f": {answer.error}" if answer.error else "")
    trouble = Trouble.MISSING if missing else Trouble.NONE
    return _finding(check, statement, f"{named(check.wanted, who)} answer", seen, trouble, missing)


def _hairpin(check: ServiceCheck, answer: Answer, nodes: NodeAddresses, who: Who) -> Finding:
    own = check.source.pod
    expected = f"{check.source} answers itself"
    if own in answer.met:
        return _finding(check, "hairpin", expected, expected)
    seen = f"it never does: {answer.error or 'others do'}"
    return _finding(check, "hairpin", expected, seen, Trouble.MISSING, [own])


def _shown(check: ServiceCheck, answer: Answer, nodes: NodeAddresses, who: Who) -> Finding:
    return _finding(check, "service-shown", *shown(check.address, check.port, answer))


def _source(check: ServiceCheck, answer: Answer, nodes: NodeAddresses, who: Who) -> Finding:
    """S-50. Not judged where a Pod meets itself: who answers that may hide it (S-52)."""
    source = check.source
    peers = {peer for name, seen in answer.met.items() if name != source.pod for peer in seen}
    own = nodes[source.node] if source.host_network else frozenset({source.address(check.family)})
    strange = peers - own
    expected = f"an address of {source.node}" if source.host_network else str(source.address(check.family))
    seen = ", ".join(sorted(strange or peers)[:MOST_NAMED]) or "only the Pod itself was met"
    trouble = Trouble.SOURCE if strange else Trouble.NONE
    return _finding(check, "service-source", expected, seen, trouble, strange)


def _stuck(check: ServiceCheck, answer: Answer, nodes: NodeAddresses, who: Who) -> Finding:
    seen = f"{named(answer.met, who)} in {check.tries} tries"
    trouble = Trouble.SPLIT if len(answer.met) > 1 else Trouble.NONE
    return _finding(check, "affinity", "one endpoint", seen, trouble)


def _refusal(check: ServiceCheck, answer: Answer | None, failure: str) -> Finding:
    expected = f"{_REFUSED} within {AT_ONCE:g} s"
    if answer is None:
        return _finding(check, "refusal", expected, failure or "no report", Trouble.NOT_ASKED)
    refused = answer.error == _REFUSED and answer.seconds < AT_ONCE
    seen = f"{answer.error} after {answer.seconds:.3f} s"
    return _finding(check, "refusal", expected, seen, Trouble.NONE if refused else Trouble.NOT_REFUSED)


_JUDGES = {
    "service": _reached,
    "service-endpoints": _all_met,
    "hairpin": _hairpin,
    "service-shown": _shown,
    "service-source": _source,
    "affinity": _stuck,
    "local": _all_met,
}


def listed(facts: Facts, ready: Iterable[Place], families: Iterable[Family]) -> Iterator[Row]:
    """Rows on the API alone: what it lists as endpoints against the Pods that are ready."""
    pods = list(ready)
    for service in SELECTING:
        for family in families:
            if service in facts.addresses and (family in facts.addresses[service] or service == "headless"):
                yield _listed(service, family, facts, pods)


def _listed(service: str, family: Family, facts: Facts, pods: Iterable[Place]) -> Row:
    found = {each.address: each for each in facts.listed(service, family)}
    wanted = {str(pod.address(family)): pod for pod in pods if pod.address(family)}
    lacking = [f"{wanted[a]} is not listed" for a in sorted(wanted.keys() - found.keys())]
    strange = sorted(found.keys() - wanted.keys())
    seen = [f"{a}, which no ready Pod has, in {found[a].slice}" for a in strange] + lacking
    hop = f"the API: EndpointSlice {found[strange[0]].slice}" if strange else "the API: no slice lists them"
    where = f"Service {service}"
    return Row(
        id="endpoints",
        statement=STATEMENTS["endpoints"],
        source=where,
        target=where,
        family=family,
        protocol="",
        ok=not seen,
        expected=f"{len(wanted)} endpoints",
        seen="; ".join(seen[:MOST_NAMED]) or f"{len(found)} endpoints",
        hop=hop if seen else "",
    )


def refused(service: str, error: str) -> Row:
    """A row on a Service that the API did not take."""
    where = f"Service {service}"
    text = STATEMENTS["endpoints"]
    return Row("endpoints", text, where, where, "", "", False, "the API takes it", error, "the API")
