"""What the answers to clients from outside mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus

from tulle.verify.external_plan import ExternalCheck
from tulle.verify.findings import AT_ONCE, NODE_PORTS, Finding, Trouble, Who, named, shown
from tulle.verify.judge import Answer, NodeAddresses

_GROUPLESS = frozenset({"refuse", "silent", "health"})
"""Whether a Service is reached says only a try that must be answered."""
_OWN = "external-source"


def findings(
    check: ExternalCheck, answer: Answer | None, failure: str, nodes: NodeAddresses, who: Who
) -> Iterator[Finding]:
    """One per sentence that the check tells of; ``failure`` is why there is no answer at all."""
    if answer is None:
        for statement in _spoken(check):
            yield _finding(check, "an answer", failure or "no report", Trouble.NOT_ASKED, statement=statement)
    elif check.purpose in _GROUPLESS:
        yield {"refuse": _refusal, "silent": _silence, "health": _health}[check.purpose](check, answer, who)
    elif not answer.met:
        for statement in _spoken(check):
            yield _finding(
                check, _expected(check, who), str(answer.error), Trouble.UNREACHED, statement=statement
            )
    else:
        yield _met(check, answer, who)
        yield _shown(check, answer)
        if check.own:
            yield _own(check, answer, nodes)


def seen_as(check: ExternalCheck, nodes: NodeAddresses) -> frozenset[str]:
    """The addresses as which an endpoint may see the client: its own, or those of its node (S-43, S-46)."""
    source = check.source
    return frozenset(source.addresses) | nodes.get(source.node, frozenset())


def strangers(check: ExternalCheck, answer: Answer, nodes: NodeAddresses) -> set[str]:
    """As whom endpoints saw the client instead. Not judged where a Pod meets itself (S-52)."""
    peers = {peer for name, seen in answer.met.items() if name != check.source.pod for peer in seen}
    return peers - seen_as(check, nodes)


def _spoken(check: ExternalCheck) -> tuple[str, ...]:
    more = () if check.purpose in _GROUPLESS else ("service-shown", _OWN) if check.own else ("service-shown",)
    return (check.statement, *more)


def _finding(
    check: ExternalCheck,
    expected: str,
    seen: str,
    trouble: Trouble = Trouble.NONE,
    about: Iterable[str] = (),
    statement: str = "",
) -> Finding:
    return Finding(
        statement=statement or check.statement,
        source=check.source,
        target=check.target,
        family=check.family,
        protocol=check.transport,
        group="" if check.purpose in _GROUPLESS else check.group,
        expected=expected,
        seen=seen,
        trouble=trouble,
        about=tuple(sorted(about)),
        entry=check.entry,
    )


def _expected(check: ExternalCheck, who: Who) -> str:
    pods = named(check.wanted, who)
    if check.every or len(check.wanted) == 1:
        return f"{pods} answer{'' if check.every else 's'}"
    return f"one of {pods} answers"


def _met(check: ExternalCheck, answer: Answer, who: Who) -> Finding:
    expected = _expected(check, who)
    foreign = answer.met.keys() - check.wanted
    if foreign:
        return _finding(check, expected, f"{named(foreign, who)} too", Trouble.FOREIGN, foreign)
    if check.purpose == "stick" and len(answer.met) > 1:
        seen = f"{named(answer.met, who)} in {check.tries} tries"
        return _finding(check, "one endpoint", seen, Trouble.SPLIT)
    missing = check.wanted - answer.met.keys() if check.every else frozenset[str]()
    if missing:
        seen = f"never {named(missing, who)}" + (f": {answer.error}" if answer.error else "")
        return _finding(check, expected, seen, Trouble.MISSING, missing)
    if answer.failed:
        seen = f"{answer.failed} tries fail, with {answer.error}"
        return _finding(check, expected, seen, Trouble.MISSING)
    return _finding(check, expected, f"{named(answer.met, who)} answer")


def _shown(check: ExternalCheck, answer: Answer) -> Finding:
    return _finding(check, *shown(check.address, check.port, answer), statement="service-shown")


def _own(check: ExternalCheck, answer: Answer, nodes: NodeAddresses) -> Finding:
    """S-44. What a node sends to another, also for its Pods, may have any of the node's addresses."""
    strange = strangers(check, answer, nodes)
    own = check.source.address(check.family)
    expected = f"an address of {check.source.node}" if check.source.host_network else str(own)
    seen = ", ".join(sorted(strange)) or expected
    trouble = Trouble.SOURCE if strange else Trouble.NONE
    return _finding(check, expected, seen, trouble, strange, statement=_OWN)


def _refusal(check: ExternalCheck, answer: Answer, who: Who) -> Finding:
    expected = f"ECONNREFUSED within {AT_ONCE:g} s"
    refused = answer.error == "ECONNREFUSED" and answer.seconds < AT_ONCE
    seen = f"{answer.error} after {answer.seconds:.3f} s"
    return _finding(check, expected, seen, Trouble.NONE if refused else Trouble.NOT_REFUSED)


def _silence(check: ExternalCheck, answer: Answer, who: Who) -> Finding:
    """In whichever way it fails: S-42 and S-61 drop, and other networks refuse."""
    if not answer.name:
        return _finding(check, "nobody answers", f"nobody answers: {answer.error}")
    trouble = Trouble.FOREIGN if check.group == NODE_PORTS else Trouble.OPEN
    seen = f"{named([answer.name], who)} answers"
    return _finding(check, "nobody answers", seen, trouble, [answer.name])


def _health(check: ExternalCheck, answer: Answer, who: Who) -> Finding:
    expected = f"{check.status} {HTTPStatus(check.status).phrase}"
    seen = answer.error or f"{answer.status} after {answer.seconds:.3f} s"
    trouble = Trouble.NONE if answer.status == check.status else Trouble.HEALTH
    return _finding(check, expected, seen, trouble)
