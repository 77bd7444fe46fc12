"""What the answers of Services mean, sentence by sentence."""

from __future__ import annotations

from typing import Any

import pytest
from networks import NODE_ADDRESSES, PLACES
from service_world import FACTS, WHO, all_well

from tulle.verify.findings import Finding, Trouble
from tulle.verify.judge import Answer
from tulle.verify.plan import Place
from tulle.verify.service_judge import findings
from tulle.verify.service_plan import Purpose, ServiceCheck, plan

POD, OTHER, HOST = PLACES[:3]


def check_of(purpose: Purpose, source: Place = POD) -> ServiceCheck:
    return next(c for c in plan(PLACES, ("IPv4",), FACTS) if (c.purpose, c.source) == (purpose, source))


def judged(check: ServiceCheck, answer: Answer | None, failure: str = "") -> dict[str, Finding]:
    return {f.statement: f for f in findings(check, answer, failure, NODE_ADDRESSES, WHO)}


def changed(check: ServiceCheck, **fields: Any) -> Answer:
    whole = all_well(check)
    return Answer(**({"id": 0, "met": whole.met, "shown": whole.shown, "error": whole.error} | fields))


SPREAD = {"service", "service-endpoints", "hairpin", "service-shown", "service-source"}


@pytest.mark.parametrize(
    ("purpose", "source", "sentences"),
    [
        ("spread", POD, SPREAD),
        ("spread", HOST, SPREAD - {"hairpin"}),
        ("once", POD, {"service", "service-shown", "service-source"}),
        ("stick", POD, {"service", "affinity", "service-shown", "service-source"}),
        ("local", HOST, {"service", "local", "service-shown", "service-source"}),
        ("refuse", POD, {"refusal"}),
    ],
)
def test_which_sentences_a_check_tells_of(purpose: Purpose, source: Place, sentences: set[str]) -> None:
    """And none is left out when nobody answers, or nobody could be asked."""
    check = check_of(purpose, source)
    well = judged(check, all_well(check))
    assert set(well) == sentences
    assert all(finding.ok for finding in well.values())
    for answer, failure in ((Answer(0, error="no answer"), ""), (None, "exec failed")):
        found = judged(check, answer, failure)
        assert set(found) == sentences
        assert not any(finding.ok for finding in found.values())


BROKEN: list[tuple[str, Purpose, dict[str, Any], dict[str, Trouble]]] = [
    (
        "an endpoint is never met",
        "spread",
        {
            "met": {p.pod: ("10.244.1.2",) for p in PLACES if not p.host_network and p.pod != "b-3"},
            "failed": 3,
        },
        {"service-endpoints": Trouble.MISSING},
    ),
    (
        "the Pod does not meet itself",
        "spread",
        {
            "met": {p.pod: ("10.244.1.2",) for p in PLACES if not p.host_network and p.pod != "a-1"},
            "failed": 1,
        },
        {"hairpin": Trouble.MISSING},
    ),
    ("tries fail", "stick", {"failed": 1, "error": "no answer"}, {"service": Trouble.MISSING}),
    ("two endpoints", "stick", {"met": {"a-1": (), "a-2": ()}}, {"affinity": Trouble.SPLIT}),
    (
        "an endpoint of another node",
        "local",
        {"met": {"a-1": (), "b-1": (), "a-2": ()}},
        {"local": Trouble.FOREIGN},
    ),
    ("the endpoint is shown", "once", {"shown": ("10.244.2.2 8099",)}, {"service-shown": Trouble.SHOWN}),
    ("another port", "once", {"shown": ("10.96.0.1 8099",)}, {"service-shown": Trouble.SHOWN}),
    ("masqueraded", "once", {"met": {"a-2": ("172.30.0.1",)}}, {"service-source": Trouble.SOURCE}),
    ("S-52: itself under another address", "once", {"met": {"a-1": ("172.30.0.1",)}}, {}),
    ("a refusal that takes a second", "refuse", {"seconds": 1.01}, {"refusal": Trouble.NOT_REFUSED}),
    ("another error", "refuse", {"error": "EPERM"}, {"refusal": Trouble.NOT_REFUSED}),
    ("somebody answers", "refuse", {"error": "a-1 answers"}, {"refusal": Trouble.NOT_REFUSED}),
]


@pytest.mark.parametrize(
    ("purpose", "fields", "troubles"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_what_does_not_hold(purpose: Purpose, fields: dict[str, Any], troubles: dict[str, Trouble]) -> None:
    check = check_of(purpose)
    found = judged(check, changed(check, **fields))
    assert {name: f.trouble for name, f in found.items() if not f.ok} == troubles


def test_a_node_is_seen_with_any_of_its_addresses() -> None:
    check = check_of("once", HOST)
    for peer, ok in (("172.30.0.1", True), ("fd00:30::1", True), ("172.30.0.2", False)):
        assert judged(check, changed(check, met={"a-2": (peer,)}))["service-source"].ok is ok


def test_rows_say_what_was_expected_and_seen() -> None:
    check = check_of("local")
    found = judged(check, changed(check, met={"a-1": ()}, failed=1, error="no answer"))["local"]
    row = found.row("somewhere")
    assert (row.id, row.source, row.target, row.family, row.protocol) == (
        *("local", "n1/a", "local:80", "IPv4", "tcp"),
    )
    assert (row.expected, row.seen) == ("n1/a, n1/b answer", "never n1/b: no answer")
    assert (row.ok, row.hop) == (False, "somewhere")
