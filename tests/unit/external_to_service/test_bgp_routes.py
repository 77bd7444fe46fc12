"""What a node announces: its Pod CIDRs, and addresses that it has endpoints for (S-02, S-10, S-24, S-75)."""

from __future__ import annotations

import itertools
from ipaddress import ip_network
from typing import Any

import pytest
from bgp_objects import EVERY_ADDRESS, endpoint, leaving, pool, service, slice_of

from tulle.external_to_service.bgp.routes import Announced, Routes, read_cidrs
from tulle.kube.cache import Change
from tulle.model.services import EndpointSlice
from tulle.pod_to_service.tracker import owner_of

HERE, OTHER = "node-1", "node-2"
VIP = "198.51.100.7"


def told(old: EndpointSlice | None, new: EndpointSlice | None) -> Change[EndpointSlice]:
    one = new or old
    assert one
    return Change("modified", ("default", one.metadata.name), old, new)


def follower() -> Announced:
    """All addresses are a pool's."""
    found = Announced(HERE, owner_of)
    found.use_pools([EVERY_ADDRESS])
    return found


def announced(*endpoints: dict[str, Any], **spec: Any) -> bool:
    found = follower()
    found.service_changed(service(VIP, **spec))
    found.slice_changed(told(None, slice_of(*endpoints)))
    return bool(found.networks())


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ([], False),
        ([endpoint(HERE)], True),
        ([endpoint(OTHER)], False),
        ([endpoint(HERE), endpoint(OTHER)], True),
        ([leaving(HERE)], True),
        ([leaving(HERE), leaving(OTHER)], True),
        ([leaving(HERE), endpoint(OTHER)], False),
        ([endpoint(HERE, ready=False)], False),
    ],
)
def test_a_node_announces_what_it_has_endpoints_for(
    policy: str, endpoints: list[dict[str, Any]], expected: bool
) -> None:
    assert announced(*endpoints, externalTrafficPolicy=policy) is expected


@pytest.mark.parametrize(
    ("endpoints", "cluster", "local"),
    [
        ([endpoint(None)], True, False),
        ([leaving(None)], True, False),
        ([endpoint(None), leaving(HERE)], True, True),
        ([leaving(None), endpoint(OTHER)], False, False),
    ],
)
def test_endpoints_outside_of_the_cluster(
    endpoints: list[dict[str, Any]], cluster: bool, local: bool
) -> None:
    assert announced(*endpoints, externalTrafficPolicy="Cluster") is cluster
    assert announced(*endpoints, externalTrafficPolicy="Local") is local


@pytest.mark.parametrize(
    "other", [{"type": "NodePort"}, {"clusterIP": "None"}, {"loadBalancerClass": "cloud/lb"}]
)
def test_services_that_have_no_load_balancer(other: dict[str, Any]) -> None:
    assert not announced(endpoint(HERE), **other)


def test_addresses_that_are_not_for_nodes() -> None:
    found = follower()
    found.slice_changed(told(None, slice_of(endpoint(HERE))))
    for mode, expected in (("Proxy", 0), ("VIP", 1), (None, 1)):
        found.service_changed(service(VIP, mode=mode))
        assert len(found.networks()) == expected, mode
    found.service_changed(service("", "nonsense"))
    assert found.networks() == ()


def test_only_addresses_of_pools_that_announce_by_bgp() -> None:
    found = Announced(HERE, owner_of)
    found.service_changed(service(VIP))
    found.slice_changed(told(None, slice_of(endpoint(HERE))))
    assert not found.networks()
    for addresses, ways, expected in (
        (["198.51.100.0/28"], None, True),
        (["198.51.100.7-198.51.100.9"], ["L2", "BGP"], True),
        (["198.51.100.0/28"], ["L2"], False),
        (["198.51.101.0/24", "nonsense"], ["BGP"], False),
    ):
        found.use_pools([pool(*addresses, announce=ways)])
        assert bool(found.networks()) is expected, addresses


def test_each_family_has_its_own_endpoints() -> None:
    found = follower()
    found.service_changed(service(VIP, "2001:db8::7"))
    six = slice_of(endpoint(HERE), name="web-6", family="IPv6")
    found.slice_changed(told(None, six))
    assert found.networks() == (ip_network("2001:db8::7"),)
    found.slice_changed(told(None, slice_of(endpoint(HERE))))
    assert found.networks() == (ip_network(VIP), ip_network("2001:db8::7"))
    assert found.slice_changed(told(six, slice_of(endpoint(HERE), name="web-6", family="FQDN")))
    assert found.networks() == (ip_network(VIP),)


def test_a_shared_address_is_announced_while_one_service_needs_it() -> None:
    found = follower()
    mine, yours = slice_of(endpoint(HERE)), slice_of(endpoint(HERE), name="dns-1", owner="dns")
    for each in (service(VIP), service(VIP, name="dns")):
        found.service_changed(each)
    assert found.slice_changed(told(None, mine)) and found.slice_changed(told(None, yours))
    assert found.slice_changed(told(mine, None))
    assert found.networks() == (ip_network(VIP),)
    found.service_changed(Change("deleted", ("default", "dns"), None, None))
    assert found.networks() == ()


def test_a_slice_that_changes_hands() -> None:
    found = follower()
    mine = slice_of(endpoint(HERE))
    found.service_changed(service(VIP))
    found.slice_changed(told(None, mine))
    assert found.slice_changed(told(mine, slice_of(endpoint(HERE), owner="other")))
    assert found.networks() == ()


def test_the_order_of_events_does_not_matter() -> None:
    steps = [
        ("service", service(VIP)),
        ("slice", told(None, slice_of(endpoint(OTHER)))),
        ("slice", told(None, slice_of(leaving(HERE), name="web-2"))),
        ("slice", told(None, slice_of(endpoint(HERE), name="web-3"))),
    ]
    for order in itertools.permutations(steps):
        found = follower()
        for kind, change in order:
            (found.service_changed if kind == "service" else found.slice_changed)(change)  # type: ignore[operator]
        assert found.networks() == (ip_network(VIP),)


def test_pod_cidrs_are_read_and_sorted() -> None:
    cidrs = read_cidrs(["fd00:10:244:1::/64", "10.244.1.0/24", "nonsense", "10.244.1.1/24"])
    routes = Routes(pod_cidrs=cidrs)
    assert routes.of("PodCIDRs", 4) == (ip_network("10.244.1.0/24"),)
    assert routes.of("PodCIDRs", 6) == (ip_network("fd00:10:244:1::/64"),)
    assert routes.of("LoadBalancers", 4) == ()
