"""`tulle controller` gives LoadBalancers their addresses (S-75): real processes, the real kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from apiserver_process import ApiServer
from pool_world import (
    ASSIGNED,
    FINALIZER,
    OPTIONS,
    Controllers,
    Object,
    World,
    condition,
    eventually,
    numbers,
)

from tulle.external_to_service.crds import crds


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    running = ApiServer(tmp_path_factory.mktemp("apiserver"))
    running.start(*OPTIONS)
    yield running
    running.close()


@pytest.fixture(scope="module")
def world(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With one controller at work."""
    made = World(server, tmp_path_factory.mktemp("home"))
    for definition in crds():
        made.apply(definition)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    addresses = [{"type": "InternalIP", "address": "198.51.100.9"}]
    made.apply(node | {"spec": {"podCIDRs": ["10.244.1.0/24"]}})
    made.kubectl(
        *("patch", "node", "n", "--subresource=status", "--type=merge", "-p"),
        json.dumps({"status": {"addresses": addresses}}),
    )
    controllers = Controllers(server)
    _, log = controllers.start()
    try:
        yield made
    except BaseException:
        print(log.read_text())
        raise
    finally:
        controllers.close()


def test_an_address_of_each_family_its_finalizer_and_its_release(world: World) -> None:
    world.pool("both", "203.0.113.0-203.0.113.1", "2001:db8:1::/127")
    world.service("both-a", "both", ipFamilyPolicy="RequireDualStack")
    found, service = world.said("both-a", "Assigned")
    assert world.ips("both-a") == ["203.0.113.0", "2001:db8:1::"]
    assert found["status"] == "True" and FINALIZER in service["metadata"]["finalizers"]
    assert "203.0.113.0" in world.event("Service", "both-a", "Assigned")
    assert world.ready("both", "Usable") == "2 IPv4 and 2 IPv6 addresses for Services"
    eventually(
        lambda: world.get("lbp", "both")["status"]["ipv4"] == {"total": 2, "assigned": 1}, "it is counted"
    )
    world.kubectl("delete", "service", "both-a", "--timeout=90s")
    eventually(lambda: world.get("lbp", "both")["status"]["ipv4"]["assigned"] == 0, "it is free again")
    world.service("both-b", "both", ipFamilyPolicy="SingleStack")
    assert world.ips("both-b") == ["203.0.113.0"]


def test_an_exhausted_pool_serves_who_waits_when_an_address_comes_back(world: World) -> None:
    world.pool("one", "203.0.113.4")
    world.service("one-a", "one")
    assert world.ips("one-a") == ["203.0.113.4"]
    world.service("one-b", "one")
    assert world.said("one-b")[0]["message"] == "no IPv4 address is free in LoadBalancerPool one"
    assert "no IPv4 address is free" in world.event("Service", "one-b", "PoolExhausted")
    world.kubectl("patch", "service", "one-a", "-p", '{"spec": {"type": "ClusterIP"}}')
    world.said("one-b", "Assigned")
    assert world.ips("one-b") == ["203.0.113.4"]

    def forgotten() -> bool:
        service = world.get("service", "one-a")
        return not service["metadata"].get("finalizers") and condition(service, ASSIGNED) is None

    eventually(forgotten, "nothing of ours is left on it")


def test_requests_and_what_is_wrong_with_them(world: World) -> None:
    world.pool("asked", "203.0.113.8/29", "2001:db8:2::/64")
    ips = "tulle.dev/load-balancer-ips"
    world.service("asked-a", "asked", {ips: "203.0.113.12,2001:db8:2::7"}, ipFamilyPolicy="PreferDualStack")
    assert world.ips("asked-a") == ["203.0.113.12", "2001:db8:2::7"]
    world.service("asked-b", "asked", loadBalancerIP="203.0.113.12")
    message = "203.0.113.12 is asked for, but Service default/asked-a has it"
    assert world.said("asked-b", "RequestNotAvailable")[0]["message"] == message
    assert world.ips("asked-b") == []
    assert world.event("Service", "asked-b", "RequestNotAvailable") == message
    world.service("asked-b", "asked", {ips: "203.0.113.13"}, loadBalancerIP="203.0.113.12")
    world.said("asked-b", "Assigned")
    assert world.ips("asked-b") == ["203.0.113.13"], "the annotation stands over the field"
    world.service("asked-c", "asked", loadBalancerIP="192.0.2.200")
    assert "is in no LoadBalancerPool" in world.said("asked-c", "RequestNotAvailable")[0]["message"]
    world.service("asked-d", "asked", {ips: "2001:db8:2::9"}, ipFamilyPolicy="SingleStack")
    assert "spec.ipFamilies has only IPv4" in world.said("asked-d", "InvalidRequest")[0]["message"]


def test_external_addresses_are_not_given_and_named_where_they_were_given_before(world: World) -> None:
    world.service("outer-a", type="ClusterIP", externalIPs=["203.0.113.240"])
    world.pool("outer", "203.0.113.240/31")
    world.service("outer-b", "outer")
    assert world.ips("outer-b") == ["203.0.113.241"]
    world.service("outer-a", type="ClusterIP", externalIPs=["203.0.113.241"])
    said = world.event("Service", "outer-a", "ExternalIPTaken")
    assert "203.0.113.241 is the load balancer's address of Service default/outer-b" in said
    world.service("outer-c", "outer")
    assert world.ips("outer-c") == ["203.0.113.240"], "nobody names it any more"
    assert world.ips("outer-b") == ["203.0.113.241"]


def test_services_share_an_address_on_other_ports(world: World) -> None:
    world.pool("shared", "203.0.113.16/28")
    key = {"tulle.dev/share-ip": "mail"}
    world.service("shared-a", "shared", key, port=25)
    world.service("shared-b", "shared", key, port=143)
    world.service("shared-c", "shared", key, port=25)
    world.service("shared-d", "shared", port=80)
    assert [world.ips(f"shared-{each}") for each in "abcd"] == [
        ["203.0.113.16"],
        ["203.0.113.16"],
        ["203.0.113.17"],
        ["203.0.113.18"],
    ]
    world.kubectl("delete", "service", "shared-a", "--timeout=90s")
    assert world.ips("shared-b") == ["203.0.113.16"]


def test_services_of_another_class_are_left_alone(world: World) -> None:
    world.pool("class", "203.0.113.32/28")
    world.service("class-a", "class", loadBalancerClass="example.com/other")
    world.service("class-b", "class", loadBalancerClass="tulle.dev/lb")
    assert world.ips("class-b") == ["203.0.113.32"]
    other = world.get("service", "class-a")
    assert other["status"] == {"loadBalancer": {}} and "finalizers" not in other["metadata"]


@pytest.mark.parametrize(
    ("name", "addresses", "reason", "says"),
    [
        ("reversed", ["203.0.113.60-203.0.113.50"], "InvalidAddresses", "ends before it begins"),
        ("mixed", ["203.0.113.60-2001:db8::1"], "InvalidAddresses", "begins with IPv4 and ends with IPv6"),
        ("within", ["203.0.113.60/24"], "InvalidAddresses", "203.0.113.0/24 may be meant"),
        ("node", ["198.51.100.0/28"], "OverlapsNode", "198.51.100.9, which belongs to Node n"),
        ("pods", ["192.0.2.0/28", "10.244.1.128/28"], "OverlapsPods", "belongs to Pods of n"),
        ("services", ["10.96.7.0/24"], "OverlapsServices", "ServiceCIDR kubernetes"),
    ],
)
def test_a_pool_that_cannot_be_right_is_named_and_gives_nothing(
    world: World, name: str, addresses: list[str], reason: str, says: str
) -> None:
    world.pool(name, *addresses)
    assert says in world.ready(name, reason)
    assert says in world.event("LoadBalancerPool", name, reason)
    world.service(f"{name}-a", name)
    found, _ = world.said(f"{name}-a")
    assert (found["status"], found["reason"]) == ("False", "NoPool") and says in found["message"]
    world.pool(name, f"203.0.113.{64 + next(numbers)}")
    world.said(f"{name}-a", "Assigned")


def test_the_younger_of_two_pools_that_overlap_loses(world: World) -> None:
    world.pool("older", "203.0.113.128/28")
    world.ready("older", "Usable")
    world.later_than(world.get("lbp", "older")["metadata"]["creationTimestamp"])
    world.pool("younger", "203.0.113.136-203.0.113.150")
    assert "LoadBalancerPool older" in world.ready("younger", "OverlapsPool")
    world.ready("older", "Usable")
    world.kubectl("delete", "lbp", "older")
    world.ready("younger", "Usable")


def test_a_default_pool_is_for_who_no_selector_names(world: World) -> None:
    world.service("plain")
    message = "no LoadBalancerPool names this Service, and none is the default one"
    assert world.said("plain", "NoPool")[0]["message"] == message
    world.pool("rest", "203.0.113.160/29", default=True)
    world.said("plain", "Assigned")
    assert world.ips("plain") == ["203.0.113.160"]
    world.kubectl("delete", "service", "plain", "--timeout=90s")
    world.kubectl("delete", "lbp", "rest")


def test_a_pool_for_namespaces_with_a_label(world: World) -> None:
    world.pool(
        "team",
        "203.0.113.197",
        serviceSelector={"matchLabels": {"pool": "team"}},
        namespaceSelector={"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]},
    )
    world.service("team-a", "team")
    world.said("team-a", "NoPool")
    world.kubectl("label", "namespace", "default", "team=b")
    world.said("team-a", "Assigned")
    world.kubectl("label", "namespace", "default", "team-")
    assert "is not for this Service any more" in world.said("team-a", "AddressKept")[0]["message"]


def test_an_address_outlives_its_pool_until_the_user_takes_it_away(world: World) -> None:
    world.pool("shrinks", "203.0.113.176/29")
    world.service("shrinks-a", "shrinks")
    assert world.ips("shrinks-a") == ["203.0.113.176"]
    world.pool("shrinks", "203.0.113.184/29")
    found, _ = world.said("shrinks-a", "AddressKept")
    assert found["status"] == "True"
    assert "203.0.113.176 is in no LoadBalancerPool any more" in found["message"]
    world.event("Service", "shrinks-a", "AddressKept")
    assert world.ips("shrinks-a") == ["203.0.113.176"]
    gone = '{"status": {"loadBalancer": {"ingress": null}}}'
    world.kubectl("patch", "service", "shrinks-a", "--subresource=status", "--type=merge", "-p", gone)
    world.said("shrinks-a", "Assigned")
    assert world.ips("shrinks-a") == ["203.0.113.184"]


def test_kubectl_shows_pools(world: World) -> None:
    world.pool("shown", "203.0.113.192/30")
    world.ready("shown", "Usable")
    head, row = world.kubectl("get", "lbp", "shown").splitlines()
    assert head.split() == [
        *("NAME", "ADDRESSES", "DEFAULT", "IPV4", "USED", "IPV4", "IPV6", "USED", "IPV6", "READY"),
        *("REASON", "AGE"),
    ]
    assert row.split()[:9] == [
        *("shown", '["203.0.113.192/30"]', "false", "0", "4", "0", "0", "True", "Usable"),
    ]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, "spec.addresses: Required value"),
        ({"addresses": []}, "spec.addresses"),
        ({"addresses": ["everything"]}, "spec.addresses[0]: Invalid value"),
        ({"addresses": ["203.0.113.1"], "default": "yes"}, "spec.default"),
        ({"addresses": ["203.0.113.1"], "announce": ["ARP"]}, 'spec.announce[0]: Unsupported value: "ARP"'),
        (
            {"addresses": ["203.0.113.1"], "serviceSelector": {"matchExpressions": [{"key": "a"}]}},
            "spec.serviceSelector.matchExpressions[0].operator: Required value",
        ),
    ],
)
def test_what_the_schema_alone_refuses(world: World, spec: Object, says: str) -> None:
    pool = {"apiVersion": "tulle.dev/v1", "kind": "LoadBalancerPool", "metadata": {"name": "bad"}}
    assert says in world.kubectl("apply", "-f", "-", fails=True, given=pool | {"spec": spec})


def test_how_a_pool_is_announced_is_kept(world: World) -> None:
    world.pool("told", "203.0.113.196", announce=["BGP"])
    assert world.get("lbp", "told")["spec"]["announce"] == ["BGP"]
