"""What a Service gets beyond its manifest, and what becomes of that when it changes (S-26, S-27, S-74)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from service_cluster import DUAL, PLAIN, SINGLE, SIX, Cluster

from tulle.errors import ApiError

HTTP = [{"port": 80}]
HTTP_FULL = [{"port": 80, "protocol": "TCP", "targetPort": 80}]
MATCH = {"app": "a"}


@pytest.fixture
async def single(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path, SINGLE)
    yield cluster
    cluster.store.close()


@pytest.fixture
async def dual(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path, DUAL)
    yield cluster
    cluster.store.close()


async def test_a_plain_service(single: Cluster) -> None:
    made = single.create("a", selector=MATCH, ports=HTTP)
    spec = made["spec"]
    assert ip_address(spec.pop("clusterIP")) in ip_network(SINGLE[0])
    assert spec.pop("clusterIPs")
    assert spec == {
        "type": "ClusterIP",
        "ports": HTTP_FULL,
        "selector": MATCH,
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    assert made["status"] == {"loadBalancer": {}}


DEFAULTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "affinity",
        {"sessionAffinity": "ClientIP"},
        {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
    ),
    (
        "affinity, half",
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}},
        {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
    ),
    (
        "no affinity",
        {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
        {"sessionAffinityConfig": None},
    ),
    (
        "node port",
        {"type": "NodePort"},
        {"externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": None},
    ),
    (
        "balancer",
        {"type": "LoadBalancer"},
        {"externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": True},
    ),
    ("external IP", {"externalIPs": ["192.0.2.9"]}, {"externalTrafficPolicy": "Cluster"}),
    ("inside only", {}, {"externalTrafficPolicy": None, "healthCheckNodePort": None}),
    (
        "by name",
        {"type": "ExternalName", "externalName": "a.b", "ports": None},
        {
            "clusterIP": None,
            "clusterIPs": None,
            "ipFamilies": None,
            "ipFamilyPolicy": None,
            "internalTrafficPolicy": None,
        },
    ),
    ("target port", {"ports": [{"port": 80, "targetPort": 0}]}, {"ports": HTTP_FULL}),
    (
        "named target",
        {"ports": [{"port": 80, "targetPort": "web"}]},
        {"ports": [{"port": 80, "protocol": "TCP", "targetPort": "web"}]},
    ),
    (
        "headless",
        {"clusterIP": "None"},
        {"clusterIPs": ["None"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"},
    ),
    ("no zeros", {"clusterIP": "", "externalIPs": [], "healthCheckNodePort": 0}, {"externalIPs": None}),
]


@pytest.mark.parametrize(("given", "expected"), [c[1:] for c in DEFAULTS], ids=[c[0] for c in DEFAULTS])
async def test_defaults(dual: Cluster, given: dict[str, Any], expected: dict[str, Any]) -> None:
    spec = dual.create("a", **{"selector": MATCH, "ports": HTTP, **given})["spec"]
    assert {key: spec.get(key) for key in expected} == expected


FOUR, SIXTH, BOTH, TURNED = ["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]
FAMILIES: list[tuple[tuple[str, ...], dict[str, Any], list[str], str]] = [
    (SINGLE, {}, FOUR, "SingleStack"),
    (SINGLE, {"ipFamilyPolicy": "PreferDualStack"}, FOUR, "PreferDualStack"),
    (SIX, {}, SIXTH, "SingleStack"),
    (DUAL, {}, FOUR, "SingleStack"),
    (DUAL, {"ipFamilies": SIXTH}, SIXTH, "SingleStack"),
    (DUAL, {"clusterIP": "fd00:10:96::99"}, SIXTH, "SingleStack"),
    (DUAL, {"ipFamilyPolicy": "PreferDualStack"}, BOTH, "PreferDualStack"),
    (DUAL, {"ipFamilyPolicy": "RequireDualStack"}, BOTH, "RequireDualStack"),
    (DUAL, {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": SIXTH}, TURNED, "PreferDualStack"),
    (DUAL, {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": TURNED}, TURNED, "RequireDualStack"),
    (DUAL, {"clusterIP": "None"}, FOUR, "SingleStack"),
    (DUAL, {"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}, BOTH, "PreferDualStack"),
    (DUAL, {"clusterIP": "None", "selector": None}, BOTH, "RequireDualStack"),
    (SINGLE, {"clusterIP": "None", "selector": None}, BOTH, "RequireDualStack"),
    (SINGLE, {"clusterIP": "None", "selector": None, "ipFamilyPolicy": "SingleStack"}, FOUR, "SingleStack"),
    (SIX, {"clusterIP": "None", "selector": None}, TURNED, "RequireDualStack"),
]


@pytest.mark.parametrize(("cidrs", "given", "families", "policy"), FAMILIES)
async def test_families(
    tmp_path: Path, cidrs: tuple[str, ...], given: dict[str, Any], families: list[str], policy: str
) -> None:
    cluster = Cluster(tmp_path, cidrs)
    spec = cluster.create("a", **{"selector": MATCH, "ports": HTTP, **given})["spec"]
    cluster.store.close()
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (families, policy)
    if given.get("clusterIP") != "None":
        assert [f"IPv{ip_address(ip).version}" for ip in spec["clusterIPs"]] == families
    assert spec["clusterIP"] == spec["clusterIPs"][0]


async def test_a_service_that_prefers_two_families_changes_only_when_it_is_changed(single: Cluster) -> None:
    single.create("a", ports=HTTP, ipFamilyPolicy="PreferDualStack")
    single.make("servicecidrs", "six", spec={"cidrs": ["fd00:10:96::/112"]})
    single.settle()
    assert single.patch("a", selector={"b": "c"})["spec"]["ipFamilies"] == FOUR
    assert single.patch("a", ipFamilyPolicy="RequireDualStack")["spec"]["ipFamilies"] == BOTH


async def test_the_second_family_comes_and_goes(dual: Cluster) -> None:
    first = dual.create("a", ports=HTTP)["spec"]["clusterIP"]
    both = dual.patch("a", ipFamilyPolicy="PreferDualStack")["spec"]
    assert both["clusterIPs"][0] == first and both["ipFamilies"] == BOTH
    assert dual.taken() == set(both["clusterIPs"])
    one = dual.patch("a", ipFamilyPolicy="SingleStack")["spec"]
    assert (one["clusterIPs"], one["ipFamilies"]) == ([first], FOUR) and dual.taken() == {first}
    named = dual.patch("a", ipFamilyPolicy="RequireDualStack", clusterIPs=[first, "fd00:10:96::77"])["spec"]
    assert named["clusterIPs"] == [first, "fd00:10:96::77"]


MANIFESTS: list[dict[str, Any]] = [
    {"ports": HTTP},
    {"type": "NodePort", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]},
    {"type": "LoadBalancer", "ports": HTTP, "externalTrafficPolicy": "Local"},
    {"ipFamilyPolicy": "RequireDualStack", "ports": HTTP},
    {"clusterIP": "None"},
    {"type": "ExternalName", "externalName": "example.com"},
]


@pytest.mark.parametrize("manifest", MANIFESTS)
async def test_the_same_manifest_again_changes_nothing(dual: Cluster, manifest: dict[str, Any]) -> None:
    made = dual.create("a", **manifest)
    assert dual.replace("a", **manifest) == made


async def test_a_service_of_an_earlier_version_gets_what_it_lacks_with_its_next_change(dual: Cluster) -> None:
    """It was stored when nothing was given to Services yet; its made-up address counts, and is its own."""
    for name, spec in (("a", {"ipFamilyPolicy": "PreferDualStack"}), ("b", {"clusterIP": "10.96.0.99"})):
        made = dual.create(name, ports=HTTP)
        dual.delete("services", name)
        dual.store.put("/services", made | {"spec": {"type": "ClusterIP", "sessionAffinity": "None", **spec}})
    assert dual.taken() == set()
    first = dual.patch("a", ports=HTTP)["spec"]
    assert first["ipFamilies"] == BOTH
    second = dual.patch("b", ports=HTTP)["spec"]
    assert second["clusterIPs"] == ["10.96.0.99"]
    assert dual.taken() == {*first["clusterIPs"], "10.96.0.99"}


async def test_node_ports_stay_with_the_names_of_their_ports(dual: Cluster) -> None:
    before = dual.create("a", type="NodePort", ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81}])
    old = {port["name"]: port["nodePort"] for port in before["spec"]["ports"]}
    after = dual.replace("a", type="NodePort", ports=[{"name": "b", "port": 9}, {"name": "c", "port": 81}])
    new = {port["name"]: port["nodePort"] for port in after["spec"]["ports"]}
    assert new["b"] == old["b"] and new["c"] not in old.values()


BALANCED = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "example.com/a"}
KEPT, GONE = "kept", "gone"
CHANGES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ("ClusterIP to NodePort", {}, {"type": "NodePort"}, {"clusterIPs": KEPT}),
    (
        "NodePort to ClusterIP",
        {"type": "NodePort"},
        {"type": "ClusterIP"},
        {"clusterIPs": KEPT, "nodePort": GONE, "externalTrafficPolicy": GONE},
    ),
    (
        "NodePort to LoadBalancer",
        {"type": "NodePort"},
        {"type": "LoadBalancer"},
        {"clusterIPs": KEPT, "nodePort": KEPT},
    ),
    (
        "LoadBalancer to NodePort",
        BALANCED,
        {"type": "NodePort"},
        {
            "clusterIPs": KEPT,
            "nodePort": KEPT,
            "healthCheckNodePort": GONE,
            "externalTrafficPolicy": KEPT,
            "allocateLoadBalancerNodePorts": GONE,
            "loadBalancerClass": GONE,
            "ingress": GONE,
        },
    ),
    (
        "LoadBalancer to ClusterIP",
        BALANCED,
        {"type": "ClusterIP"},
        {
            "nodePort": GONE,
            "healthCheckNodePort": GONE,
            "externalTrafficPolicy": GONE,
            "ingress": GONE,
            "allocateLoadBalancerNodePorts": GONE,
            "loadBalancerClass": GONE,
        },
    ),
    (
        "LoadBalancer to ExternalName",
        BALANCED,
        {"type": "ExternalName", "externalName": "a.b"},
        {
            "clusterIP": GONE,
            "clusterIPs": GONE,
            "ipFamilies": GONE,
            "ipFamilyPolicy": GONE,
            "nodePort": GONE,
            "healthCheckNodePort": GONE,
            "ingress": GONE,
        },
    ),
    (
        "Local to Cluster",
        BALANCED,
        {"externalTrafficPolicy": "Cluster"},
        {"healthCheckNodePort": GONE, "nodePort": KEPT, "ingress": KEPT},
    ),
    (
        "external IPs go",
        {"externalIPs": ["192.0.2.9"]},
        {"externalIPs": None},
        {"externalTrafficPolicy": GONE},
    ),
    (
        "affinity goes",
        {"sessionAffinity": "ClientIP"},
        {"sessionAffinity": "None"},
        {"sessionAffinityConfig": GONE},
    ),
]


@pytest.mark.parametrize(("given", "change", "fate"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
async def test_a_changed_type_keeps_what_it_needs_and_gives_back_the_rest(
    dual: Cluster, given: dict[str, Any], change: dict[str, Any], fate: dict[str, str]
) -> None:
    dual.create("a", ports=HTTP, ipFamilyPolicy="PreferDualStack", **given)
    if given.get("type") == "LoadBalancer":
        balance(dual, "a", [{"ip": "192.0.2.7"}])
    before = flat(dual.find("services", "a", "") or {})
    after = flat(dual.patch("a", **change))
    for key, what in fate.items():
        assert before.get(key), f"{key} was not there before"
        assert after.get(key) == (before[key] if what == KEPT else None), key
    assert dual.taken() == set(after.get("clusterIPs") or ())


def balance(cluster: Cluster, name: str, ingress: list[dict[str, Any]]) -> None:
    kind, how = cluster.writer.registry.get("", "services"), "application/merge-patch+json"
    status = {"status": {"loadBalancer": {"ingress": ingress}}}
    cluster.writer.patch(kind, "default", name, how, status, PLAIN, "status")


def flat(service: dict[str, Any]) -> dict[str, Any]:
    """The spec, with the first port's node port and the status' ingress beside it."""
    first = (service["spec"].get("ports") or [{}])[0]
    ingress = service["status"]["loadBalancer"].get("ingress")
    return {**service["spec"], "nodePort": first.get("nodePort"), "ingress": ingress}


async def test_an_external_name_becomes_a_service_with_addresses(dual: Cluster) -> None:
    dual.create("a", type="ExternalName", externalName="a.b")
    spec = dual.patch("a", type="ClusterIP", externalName=None, ports=HTTP)["spec"]
    assert spec["ipFamilies"] == FOUR and dual.taken() == set(spec["clusterIPs"])


async def test_a_balancers_address_is_a_virtual_one_unless_it_says_otherwise(dual: Cluster) -> None:
    dual.create("a", type="LoadBalancer", ports=HTTP)
    balance(dual, "a", [{"ip": "192.0.2.7"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}, {"hostname": "a.b"}])
    found = dual.find("services", "a", "")
    assert found is not None
    modes = [each.get("ipMode") for each in found["status"]["loadBalancer"]["ingress"]]
    assert modes == ["VIP", "Proxy", None]


async def test_a_service_may_start_with_a_digit(single: Cluster) -> None:
    assert single.create("1st", ports=HTTP)["spec"]["clusterIP"]
    with pytest.raises(ApiError, match=r"metadata\.name: Invalid value: \"a\.b\""):
        single.create("a.b", ports=HTTP)
