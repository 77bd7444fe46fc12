"""The planner against the rules: for every policy, state of the endpoints, client and door."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pytest
from tests.canonical import (
    ANY,
    CANONICAL,
    ELSEWHERE,
    EVERY_POLICY,
    EVERY_STATE,
    HERE,
    Door,
    Fate,
    Outcome,
    Policies,
    Source,
    State,
    let_in,
    may_differ,
    outcome,
)
from tests.canonical_objects import ADDRESSES, Addresses, service, slices

from tulle.model.address import from_bytes
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.plan import Kind, Lead, OnEmpty, PortPlan
from tulle.pod_to_service.planner import plan_service

KINDS = {
    Door.CLUSTER_IP: Kind.CLUSTER_IP,
    Door.NODE_PORT: Kind.NODE_PORT,
    Door.BALANCER: Kind.LOAD_BALANCER,
    Door.EXTERNAL_IP: Kind.EXTERNAL_IP,
}
BOTH = {HERE: State.READY, ELSEWHERE: State.READY}


@pytest.mark.parametrize(("flow", "cell"), CANONICAL.items(), ids=map(str, CANONICAL))
def test_the_rules_are_those_of_kube_proxy(
    flow: tuple[Policies, Source, Door], cell: tuple[Outcome, bool]
) -> None:
    """All 27."""
    assert (outcome(*flow, BOTH), may_differ(*flow)) == cell


def test_a_pod_of_another_node_is_outside_of_this_one() -> None:
    """kube-proxy's override for clusters without a LocalTrafficDetector."""
    local = Policies(external_local=True)
    for door in (Door.NODE_PORT, Door.BALANCER):
        assert outcome(local, Source.OTHER, door, BOTH) == {HERE}
        assert outcome(local, Source.POD, door, BOTH) == ANY


def planned(
    policies: Policies, endpoints: Mapping[str, State], addresses: Addresses, ranges: tuple[str, ...] = ()
) -> PortPlan:
    made = service(policies, addresses, ranges=ranges)
    plan = plan_service(made, slices(endpoints, addresses), Location("here"))
    assert plan.problems == ()
    [port] = plan.ports
    return port


def lead_of(port: PortPlan, door: Door) -> Lead:
    [lead] = [lead for lead in port.leads if lead.kind is KINDS[door]]
    return lead


def led(port: PortPlan, source: Source, door: Door, addresses: Addresses) -> Outcome:
    """By the set that the client's side of the lead names."""
    lead = lead_of(port, door)
    choice = port.choices[lead.inside if source.from_here else lead.outside]
    names = {address: name for name, address in addresses.endpoints.items()}
    if not choice.backends:
        return Fate.DROPPED if choice.on_empty is OnEmpty.DROP else Fate.REFUSED
    return frozenset(names[from_bytes(backend.address)] for backend in choice.backends)


@pytest.mark.parametrize("addresses", ADDRESSES, ids=("v4", "v6"))
@pytest.mark.parametrize("policies", EVERY_POLICY, ids=str)
def test_where_every_client_is_led(policies: Policies, addresses: Addresses) -> None:
    for endpoints in EVERY_STATE:
        port = planned(policies, endpoints, addresses)
        for source, door in product(Source, Door):
            wanted = outcome(policies, source, door, endpoints)
            assert led(port, source, door, addresses) == wanted, (endpoints, source, door)


CLIENTS = {
    "an external client": "203.0.113.10",
    "another external client": "192.0.2.9",
    "a Pod": "10.244.1.2",
    "the node": "192.168.0.1",
    "the address itself": str(ADDRESSES[0].balancer),
}
RANGES: list[tuple[tuple[str, ...], set[str]]] = [
    ((), set(CLIENTS)),
    (("203.0.113.0/24",), {"an external client"}),
    (("203.0.113.0/24", "10.244.1.0/24"), {"an external client", "a Pod"}),
    (("192.168.0.0/24",), {"the node", "the address itself"}),
    (("2001:db8::/32",), set(CLIENTS)),
    (("0.0.0.0/0",), set(CLIENTS)),
]
"""kube-proxy's ``TestLoadBalancer``: whom the load balancer's address is open to. A node that is let in may
come by that address, too, should it have it (S-61). Ranges of the other family restrict nothing (S-17)."""


@pytest.mark.parametrize(("ranges", "wanted"), RANGES, ids=[str(ranges) for ranges, _ in RANGES])
def test_who_is_let_in(ranges: tuple[str, ...], wanted: set[str]) -> None:
    here = Location("here", addresses=frozenset({bytes(10) + b"\xff\xff" + bytes([192, 168, 0, 1])}))
    made = service(Policies(), ADDRESSES[0], ranges=ranges)
    [port] = plan_service(made, slices(BOTH, ADDRESSES[0]), here).ports
    for door in Door:
        sources = lead_of(port, door).sources
        networks = () if sources is None else tuple(map(str, sources)) or ("255.255.255.255/32",)
        open_to = {name for name, client in CLIENTS.items() if let_in(networks, client, Door.BALANCER)}
        assert open_to == (wanted if door is Door.BALANCER else set(CLIENTS)), door
