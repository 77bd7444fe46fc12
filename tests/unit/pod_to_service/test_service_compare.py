"""The kernel's Service table beside what it should be: each way in which it can be another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from service_objects import raw
from tests.plans import as_written as kernel
from tests.plans import choosing, plan_at

from tulle.pod_to_service.compare import Pair, compare, confirm, kernel_only
from tulle.pod_to_service.entries import LeadsTo
from tulle.pod_to_service.observed import KernelTable
from tulle.pod_to_service.plan import (
    PROTOCOLS,
    Backend,
    Choice,
    Frontend,
    OnEmpty,
    PortPlan,
    Traffic,
)

A, B, C = (Backend(raw(f"10.244.0.{n}"), 8080) for n in (1, 2, 3))
WEB, DNS = raw("10.96.0.7"), raw("fd00:10:96::a")
NOBODY: frozenset[bytes] = frozenset()


def planned(*frontends: Frontend) -> PortPlan:
    """``default/web``, port http, at 10.96.0.7:80, with the endpoints A and B."""
    return plan_at(*(frontends or (Frontend(WEB, 80, PROTOCOLS["TCP"]),)), backends=(A, B))


DNS_PLAN = plan_at(
    Frontend(DNS, 53, PROTOCOLS["UDP"]),
    service=("kube-system", "dns"),
    port="dns",
    backends=(C,),
    serving=(B, C),
)


def changed(table: KernelTable, index: int = 2, **fields: Any) -> KernelTable:
    """Fields of a port, or of its choice."""
    port = table.ports[index]
    assert port.choice
    of_choice = {name: fields.pop(name) for name in list(fields) if name in Choice.__slots__}
    port = replace(port, **{"choice": replace(port.choice, **of_choice), **fields})
    return replace(table, ports={**table.ports, index: port})


def told(pairs: list[Pair]) -> list[str]:
    return [str(difference) for pair in pairs for difference in pair.differences]


def without_frontend(table: KernelTable) -> KernelTable:
    return replace(table, ports={}, leads={})


def of_node(table: KernelTable) -> KernelTable:
    return replace(table, refusing=NOBODY, own=frozenset([WEB]))


def shared(table: KernelTable) -> KernelTable:
    more = Frontend(raw("10.96.0.8"), 80, PROTOCOLS["TCP"])
    table = changed(table, frontends=(*table.ports[2].frontends, more))
    return replace(table, leads={**table.leads, more: LeadsTo(2, 2)})


CASES: dict[str, tuple[Callable[[KernelTable], KernelTable], list[str]]] = {
    "as it should be": (lambda t: t, []),
    "hits are no difference": (lambda t: changed(t, hits=7), []),
    "the order of backends is none either": (lambda t: changed(t, backends=(B, A)), []),
    "no frontend": (without_frontend, ["10.96.0.7:80/TCP: missing in the kernel"]),
    "other ports are not refused (S-29)": (
        lambda t: replace(t, refusing=NOBODY),
        ["10.96.0.7, refusing other ports: missing in the kernel"],
    ),
    "no set": (
        lambda t: changed(t, choice=None),
        ["the endpoints (index 2 leads to no set): missing in the kernel"],
    ),
    "an endpoint less": (
        lambda t: changed(t, backends=(B,)),
        ["endpoint 10.244.0.1:8080: missing in the kernel"],
    ),
    "an endpoint more": (
        lambda t: changed(t, backends=(A, B, C)),
        ["endpoint 10.244.0.3:8080: only in the kernel"],
    ),
    "an endpoint twice (S-36)": (
        lambda t: changed(t, backends=(A, A, B)),
        ["endpoint 10.244.0.1:8080: only in the kernel"],
    ),
    "another endpoint": (
        lambda t: changed(t, backends=(A, C)),
        ["endpoint 10.244.0.2:8080: missing in the kernel", "endpoint 10.244.0.3:8080: only in the kernel"],
    ),
    "affinity (S-60)": (
        lambda t: changed(t, affinity=100),
        ["affinity: 100 s in the kernel, none by the API"],
    ),
    "what happens when empty (S-40, S-41)": (
        lambda t: changed(t, on_empty=OnEmpty.DROP),
        ["when empty: drop in the kernel, refuse by the API"],
    ),
    "another frontend leads here": (
        shared,
        ["10.96.0.8:80/TCP leads here, too, in the kernel"],
    ),
    "left to the node": (of_node, ["10.96.0.7 is left to this node, which does not have the address"]),
}


@pytest.mark.parametrize(("change", "differences"), CASES.values(), ids=CASES.keys())
def test_what_differs(change: Callable[[KernelTable], KernelTable], differences: list[str]) -> None:
    pairs = compare([planned()], change(kernel(planned())), NOBODY)
    assert told(pairs) == differences
    assert [pair.plan for pair in pairs] == [planned()]


def test_who_may_keep_old_flows() -> None:
    """S-65: told apart from who gets new ones."""
    table = changed(kernel(DNS_PLAN), serving=(A, C))
    assert told(compare([DNS_PLAN], table, NOBODY)) == [
        "endpoint 10.244.0.2:8080 for old flows: missing in the kernel",
        "endpoint 10.244.0.1:8080 for old flows: only in the kernel",
    ]


def test_one_difference_of_a_udp_port_is_told_once() -> None:
    """Where the same endpoints get new flows and keep old ones (S-65)."""
    plan = choosing(DNS_PLAN, backends=(B, C), serving=(B, C))
    table = changed(kernel(plan), backends=(C,), serving=(C,))
    assert told(compare([plan], table, NOBODY)) == ["endpoint 10.244.0.2:8080: missing in the kernel"]


def test_what_only_the_kernel_has() -> None:
    table = kernel(planned(), DNS_PLAN)
    pairs = compare([planned()], replace(table, refusing=table.refusing | {raw("10.96.0.9")}), NOBODY)
    assert told(pairs) == ["[fd00:10:96::a]:53/UDP: only in the kernel", "10.96.0.9: only in the kernel"]
    assert [pair.plan is None for pair in pairs] == [False, True, True]
    assert pairs[1].kernel[Traffic.CLUSTER].choice == DNS_PLAN.cluster


def test_an_address_that_the_node_has_itself() -> None:
    own = frozenset([WEB])
    assert told(compare([planned()], KernelTable({}, {}, own=own), own)) == []
    assert told(compare([planned()], kernel(planned()), own)) == [
        "10.96.0.7:80/TCP (this node has the address itself): only in the kernel",
        "10.96.0.7 left to this node, which has the address itself: missing in the kernel",
    ]


def test_frontends_of_one_port_that_lead_to_different_sets() -> None:
    frontends = (*planned().frontends, Frontend(raw("10.96.0.8"), 80, PROTOCOLS["TCP"]))
    halves = [planned(frontend) for frontend in frontends]
    pairs = compare([planned(*frontends)], kernel(*halves), NOBODY)
    assert told(pairs) == ["its frontends lead to different sets in the kernel"]


def test_without_the_api_everything_is_shown_and_nothing_differs() -> None:
    pairs = kernel_only(kernel(planned(), DNS_PLAN))
    assert [pair.frontends for pair in pairs] == [planned().frontends, DNS_PLAN.frontends]
    assert told(pairs) == []


def test_only_what_stays_is_a_difference() -> None:
    """A change may be under way at either look."""
    wanted = [planned(), DNS_PLAN]
    right = kernel(*wanted)
    stays = changed(right, backends=(A,))
    first = compare(wanted, changed(stays, index=3, affinity=5), NOBODY)
    second = compare(wanted, changed(stays, index=3, on_empty=OnEmpty.DROP), NOBODY)
    assert told(confirm(first, second)) == ["endpoint 10.244.0.2:8080: missing in the kernel"]
    assert [pair.kernel for pair in confirm(first, second)] == [pair.kernel for pair in second]
    assert told(confirm(first, compare(wanted, right, NOBODY))) == []


def test_what_only_the_kernel_has_stays_by_its_address() -> None:
    """It has no name, and the index may be given to another."""
    first, second = (compare([], kernel(plan), NOBODY) for plan in (planned(), DNS_PLAN))
    assert told(confirm(first, first)) == ["10.96.0.7:80/TCP: only in the kernel"]
    assert told(confirm(first, second)) == []
