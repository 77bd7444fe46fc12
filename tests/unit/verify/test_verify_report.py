from __future__ import annotations

import io

from networks import OWNERS, lost, outcomes, well
from rich.console import Console

from tulle.verify import hops, judge
from tulle.verify.judge import Row
from tulle.verify.plan import Check
from tulle.verify.report import show


def text(rows: list[Row]) -> str:
    page = io.StringIO()
    show(rows, Console(width=140, file=page))
    return page.getvalue()


def rows(broken: str = "") -> list[Row]:
    def network(check: Check) -> judge.Answer:
        nodes = {check.source.node, check.target.node}
        return lost(check) if broken in nodes and len(nodes) == 2 else well(check)

    results = outcomes(network)
    found = hops.find(results, OWNERS)
    return [judge.row(result, found.get(number, "")) for number, result in enumerate(results)]


def test_all_well_is_short() -> None:
    shown = text(rows())
    assert len(shown.splitlines()) <= 9
    assert "All " in shown
    assert "✗" not in shown


def test_a_failure_shows_who_reaches_whom_and_what_is_broken() -> None:
    shown = text(rows(broken="n2"))
    assert "✗ Pods reach all Pods of other nodes" in shown
    assert "✗ all" in shown
    assert "n2 ↔ all other nodes: " in shown
    assert "n1/a → n2/a IPv4 tcp: expected n2/a sees 10.244.1.2, seen no answer within 3 s" in shown
