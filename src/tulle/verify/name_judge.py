"""What the answers of the DNS mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tulle.verify.findings import AT_ONCE, Finding, Trouble
from tulle.verify.judge import Answer
from tulle.verify.name_plan import NameCheck
from tulle.verify.plan import Place

_MOST_NAMED = 3


def finding(check: NameCheck, answer: Answer | None, failure: str) -> Finding:
    """``failure`` is why there is no answer at all."""
    if answer is None:
        return _finding(check, failure or "no report", Trouble.NOT_ASKED)
    if not check.server:
        return _by_library(check, answer)
    if answer.error is not None:
        return _finding(check, answer.error, Trouble.SILENT)
    found, wanted = set(answer.records), check.record.wanted
    seen = _listed(found) if answer.rcode == "NOERROR" else answer.rcode
    right_code = "NOERROR" if wanted else "NXDOMAIN"
    if found != wanted or answer.rcode != right_code:
        return _finding(check, seen, Trouble.WRONG)
    if not wanted and answer.seconds >= AT_ONCE:
        return _finding(check, f"{seen} after {answer.seconds:.3f} s", Trouble.SILENT)
    return _finding(check, seen, Trouble.NONE)


def _by_library(check: NameCheck, answer: Answer) -> Finding:
    right = answer.error is None and set(answer.records) == check.record.wanted
    seen = answer.error or _listed(answer.records)
    return _finding(check, seen, Trouble.NONE if right else Trouble.LIBRARY)


def _finding(check: NameCheck, seen: str, trouble: Trouble) -> Finding:
    return Finding(
        statement=check.record.statement,
        source=check.source,
        target=check.target,
        family=check.family or "",
        protocol=check.transport,
        group=check.server and f"DNS at {check.server}",
        expected=_listed(check.record.wanted) if check.record.wanted else "NXDOMAIN",
        seen=seen,
        trouble=trouble,
    )


def without_zone(source: Place, seen: str) -> Finding:
    """A Pod that cannot find names of the cluster, as it does not know whom to ask, or in which domain."""
    expected = "a search path of the cluster, and a nameserver"
    return Finding("name-library", source, "", "", "", "", expected, seen, Trouble.NO_ZONE)


def _listed(records: Iterable[str]) -> str:
    every = sorted(records)
    rest = len(every) - _MOST_NAMED
    return ", ".join(every[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "") or "no records"
