"""What holds for every Service and every set of slices."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from service_objects import HERE, service

from tulle.model.services import (
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    Hint,
    Service,
    ServicePort,
    SliceLabels,
    SliceMeta,
)
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.plan import PROTOCOLS, Kind, OnEmpty, ServicePlan, Traffic
from tulle.pod_to_service.planner import plan_service

maybe = st.none() | st.booleans()
names = st.lists(st.sampled_from(["zone-a", "zone-b", "here", "there"]), max_size=2).map(
    lambda found: tuple(map(Hint, found))
)
endpoints = st.builds(
    Endpoint,
    addresses=st.none()
    | st.lists(st.sampled_from(["10.1.0.1", "10.1.0.2", "010.1.0.3", "fd00::1", "x"])).map(tuple),
    conditions=st.builds(EndpointConditions, maybe, maybe, maybe),
    node_name=st.sampled_from([None, "here", "there"]),
    hints=st.none() | st.builds(EndpointHints, names, names),
)
slice_ports = st.builds(
    EndpointPort,
    st.sampled_from([None, "", "http", "dns"]),
    st.sampled_from([None, -1, 0, 53, 8080, 65536]),
    st.sampled_from([None, "TCP", "UDP", "IP"]),
)
kinds = st.sampled_from(["IPv4", "IPv4", "IPv6", "FQDN", ""])
slices = st.builds(
    lambda kind, members, ports: (kind, tuple(members), tuple(ports)),
    kinds,
    st.lists(endpoints, max_size=6),
    st.lists(slice_ports, max_size=3),
)
service_ports = st.builds(
    ServicePort,
    st.sampled_from([0, 53, 80, 65536]),
    st.sampled_from(["", "http", "dns"]),
    st.sampled_from(["TCP", "UDP", "SCTP", "IP"]),
    st.sampled_from([0, 30080]),
)
words = st.sampled_from([None, "Cluster", "Local", "?"])
services = st.builds(
    lambda addresses, ports, internal, external, outside: service(
        *addresses,
        ports=tuple(ports),
        internal_traffic_policy=internal,
        external_traffic_policy=external,
        external_ips=tuple(outside),
    ),
    st.lists(st.sampled_from(["10.96.0.1", "fd00:10:96::1", "10.96.0.2", "?"]), min_size=1, max_size=3),
    st.lists(service_ports, min_size=1, max_size=4),
    words,
    words,
    st.lists(st.sampled_from(["198.51.100.1", "2001:db8::1", "10.96.0.1", "?"]), max_size=3),
)


def numbered(found: list[Any]) -> list[EndpointSlice]:
    meta = SliceLabels("web")
    return [EndpointSlice(SliceMeta(f"web-{i}", "default", meta), *each) for i, each in enumerate(found)]


@given(services, st.lists(slices, max_size=4), st.randoms())
def test_no_order_changes_the_plan(asked: Service, found: list[Any], random: Any) -> None:
    """Neither that of slices nor that of endpoints within them."""
    given_slices = numbered(found)
    shuffled = [
        msgspec.structs.replace(
            each, endpoints=tuple(random.sample(each.endpoints or (), len(each.endpoints or ())))
        )
        for each in random.sample(given_slices, len(given_slices))
    ]
    planned = plan_service(asked, given_slices, HERE)
    assert plan_service(asked, shuffled, HERE).ports == planned.ports
    assert plan_service(asked, reversed(given_slices), HERE) == planned


@given(services, st.lists(slices, max_size=4))
def test_every_backend_is_eligible(asked: Service, found: list[Any]) -> None:
    """It is in a slice of the family with that port, and ready or still serving (S-31); Local is local."""
    given_slices = numbered(found)
    for port in plan_service(asked, given_slices, HERE).ports:
        for traffic, choice in port.choices.items():
            eligible = {
                (endpoint.addresses[0].lstrip("0"), slice_port.port)
                for each in given_slices
                if each.address_type == f"IPv{port.family}"
                for slice_port in each.ports or ()
                if slice_port.name == port.port
                and PROTOCOLS.get(slice_port.protocol or "TCP") == port.protocol
                for endpoint in each.endpoints or ()
                if endpoint.addresses and may_be_used(endpoint, traffic is Traffic.LOCAL)
            }
            spoken = {(address_of(b.address), b.port) for b in choice.backends}
            assert spoken <= eligible
            assert list(choice.backends) == sorted(set(choice.backends))
            assert set(choice.backends) <= set(choice.serving) or port.protocol != PROTOCOLS["UDP"]


@given(services)
def test_a_plan_has_the_choices_that_leads_need(asked: Service) -> None:
    """S-30, S-45 to S-48: and no other, and each frontend once."""
    for port in plan_service(asked, [], HERE).ports:
        assert set(port.choices) == {t for lead in port.leads for t in (lead.inside, lead.outside)}
        assert len(set(port.frontends)) == len(port.frontends)
        for lead in port.leads:
            inside = asked.spec.internal_traffic_policy == "Local" and lead.kind is Kind.CLUSTER_IP
            assert lead.inside is (Traffic.LOCAL if inside else Traffic.CLUSTER)
            policy = asked.spec.internal_traffic_policy if lead.kind is Kind.CLUSTER_IP else None
            if lead.kind is not Kind.CLUSTER_IP:
                policy = asked.spec.external_traffic_policy
            assert lead.outside is (Traffic.LOCAL if policy == "Local" else Traffic.CLUSTER)


def address_of(raw: bytes) -> str:
    return "fd00::1" if raw[0] else ".".join(map(str, raw[12:]))


def may_be_used(endpoint: Endpoint, local: bool) -> bool:
    c = endpoint.conditions
    usable = c.ready is not False or (c.serving is not False and c.terminating is True)
    return usable and (endpoint.node_name == "here" or not local)


@given(services, st.lists(slices, max_size=4))
def test_hints_never_leave_a_service_without_endpoints(asked: Service, found: list[Any]) -> None:
    """S-32, S-33: hints choose among the ready ones, and choose one at least."""
    unhinted = numbered([(kind, tuple(map(without_hints, members)), ports) for kind, members, ports in found])
    hinted = plan_service(asked, numbered(found), HERE).ports
    for port, plain in zip(hinted, plan_service(asked, unhinted, Location("here")).ports, strict=True):
        assert (port.leads, port.affinity) == (plain.leads, plain.affinity)
        for traffic, choice in port.choices.items():
            unhinted_choice = plain.choices[traffic]
            assert set(choice.backends) <= set(unhinted_choice.backends)
            assert bool(choice.backends) == bool(unhinted_choice.backends)
            assert choice.serving == unhinted_choice.serving
            assert choice.on_empty is unhinted_choice.on_empty


def without_hints(endpoint: Endpoint) -> Endpoint:
    return msgspec.structs.replace(endpoint, hints=None)


@given(services, st.lists(slices, max_size=4))
def test_only_the_policy_local_drops(asked: Service, found: list[Any]) -> None:
    """S-40 to S-42."""
    planned: ServicePlan = plan_service(asked, numbered(found), HERE)
    for port in planned.ports:
        for traffic, choice in port.choices.items():
            assert traffic is Traffic.LOCAL or choice.on_empty is OnEmpty.REJECT
