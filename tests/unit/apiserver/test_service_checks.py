"""What is refused about Services, ServiceCIDRs and IPAddresses, in Kubernetes' words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from service_cluster import DUAL, PLAIN, SINGLE, Cluster

from tulle.apiserver import addresses
from tulle.errors import ApiError

HTTP = [{"port": 80}]
TWO = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
LOCAL = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
NAMED = {"type": "ExternalName", "externalName": "a.b"}
ONLY_BALANCED = "Forbidden: may only be used when `type` is 'LoadBalancer'"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path, DUAL)
    yield cluster
    cluster.store.close()


CREATES: list[tuple[dict[str, Any], str]] = [
    ({"ports": []}, "spec.ports: Required value"),
    ({"ports": [{"port": 0}]}, "spec.ports[0].port: Invalid value: 0"),
    ({"ports": [{"port": 1}, {"port": 2}]},
     "[spec.ports[0].name: Required value, spec.ports[1].name: Required value]"),
    ({"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]},
     'spec.ports[1].name: Duplicate value: "a"'),
    ({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]},
     'spec.ports[1]: Duplicate value: "1/TCP"'),
    ({"ports": [{"name": "A_b", "port": 1}]},
     'spec.ports[0].name: Invalid value: "A_b": a lowercase RFC 1123 label'),
    ({"ports": [{"port": 1, "protocol": "ICMP"}]},
     'spec.ports[0].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP"'),
    ({"ports": [{"port": 1, "targetPort": 70000}]},
     "spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive"),
    ({"ports": [{"port": 1, "targetPort": "a-name-too-long-for-a-port"}]},
     "must be no more than 15 characters"),
    ({"ports": [{"port": 1, "targetPort": "a--b"}]}, "must not contain consecutive hyphens"),
    ({"ports": [{"port": 1, "targetPort": "-ab"}]}, "must not begin or end with a hyphen"),
    ({"ports": [{"port": 1, "targetPort": "12"}]}, "must contain at least one letter (a-z)"),
    ({"ports": [{"port": 1, "targetPort": "a_b"}]}, "must contain only alpha-numeric characters (a-z, 0-9)"),
    ({"ports": [{"port": 1, "appProtocol": "a b"}]}, 'spec.ports[0].appProtocol: Invalid value: "a b"'),
    ({"ports": [{"port": 1, "nodePort": 30000}]},
     "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
    ({"type": "NodePort", "ports": [dict(each, nodePort=30001) for each in TWO]},
     "spec.ports[1].nodePort: Duplicate value: 30001"),
    ({"type": "Other"}, 'spec.type: Unsupported value: "Other": supported values: "ClusterIP", "NodePort"'),
    ({"selector": {"a b": "c"}}, 'spec.selector: Invalid value: "a b"'),
    ({"selector": {"a": "b c"}}, 'spec.selector: Invalid value: "b c"'),
    ({"type": "NodePort", "clusterIP": "None"},
     "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"),
    ({"type": "LoadBalancer", "clusterIP": "None"}, "may not be set to 'None' for LoadBalancer services"),
    ({"type": "ExternalName"}, "spec.externalName: Required value"),
    ({"type": "ExternalName", "externalName": "a_b"}, 'spec.externalName: Invalid value: "a_b"'),
    (NAMED | {"clusterIP": "10.96.0.9"},
     "spec.clusterIPs: Forbidden: may not be set for ExternalName services"),
    (NAMED | {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"},
     "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services"),
    ({"clusterIPs": ["10.96.0.9"]},
     'spec.clusterIPs: Invalid value: ["10.96.0.9"]: must be empty when `clusterIP` is not specified'),
    ({"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.9"]}, "first value must match `clusterIP`"),
    ({"clusterIP": "None", "clusterIPs": ["None", "10.96.0.9"]}, "'None' must be the first and only value"),
    ({"clusterIP": "nonsense"},
     'spec.clusterIPs[0]: Invalid value: "nonsense": must be a valid IP address, (e.g. 10.9.8.7'),
    ({"clusterIP": "010.96.0.9"},
     'spec.clusterIPs[0]: Invalid value: "010.96.0.9": must not have leading 0s'),
    ({"clusterIP": "::ffff:10.96.0.9"}, "must not be an IPv4-mapped IPv6 address"),
    ({"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8", "10.96.0.9"],
      "ipFamilyPolicy": "PreferDualStack"},
     "may specify no more than one IP for each IP family"),
    ({"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8", "fd00:10:96::9"]},
     "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' "
     "when multiple cluster IPs are specified"),
    ({"ipFamilies": ["IPv4", "IPv6"]}, "when multiple IP families are specified"),
    ({"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"},
     'spec.ipFamilies[1]: Duplicate value: "IPv4"'),
    ({"ipFamilies": ["IPv5"]}, 'spec.ipFamilies[0]: Unsupported value: "IPv5"'),
    ({"ipFamilyPolicy": "Both"}, 'spec.ipFamilyPolicy: Unsupported value: "Both"'),
    ({"sessionAffinity": "Cookie"}, 'spec.sessionAffinity: Unsupported value: "Cookie"'),
    *[
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}},
         f"spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: {seconds}: "
         "must be greater than 0 and less than 86400")
        for seconds in (0, -1, 86401)
    ],
    ({"externalIPs": ["x"]}, 'spec.externalIPs[0]: Invalid value: "x": must be a valid IP address'),
    ({"externalIPs": ["127.0.0.1"]}, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
    ({"externalIPs": ["0.0.0.0"]}, "may not be unspecified (0.0.0.0)"),
    ({"externalIPs": ["169.254.0.1"]}, "may not be in the link-local range"),
    ({"externalIPs": ["ff02::1"]}, "may not be in the link-local multicast range"),
    ({"externalTrafficPolicy": "Local"},
     'externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services'),
    ({"type": "NodePort", "externalTrafficPolicy": "Near"}, 'Unsupported value: "Near"'),
    ({"internalTrafficPolicy": "Near"}, 'spec.internalTrafficPolicy: Unsupported value: "Near"'),
    ({"healthCheckNodePort": 30000},
     "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"),
    ({"trafficDistribution": "Near"},
     'spec.trafficDistribution: Unsupported value: "Near": supported values: "PreferClose", '
     '"PreferSameNode", "PreferSameZone"'),
    ({"loadBalancerSourceRanges": ["10.0.0.0/8"]}, f"spec.loadBalancerSourceRanges: {ONLY_BALANCED}"),
    ({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8", "10.0.0.0"]},
     'spec.loadBalancerSourceRanges[1]: Invalid value: "10.0.0.0": must be a valid CIDR value'),
    ({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1/8"]},
     "must not have bits set beyond the prefix length"),
    ({"allocateLoadBalancerNodePorts": False}, f"spec.allocateLoadBalancerNodePorts: {ONLY_BALANCED}"),
    ({"loadBalancerClass": "a"}, f"spec.loadBalancerClass: {ONLY_BALANCED}"),
    ({"type": "LoadBalancer", "loadBalancerClass": "a b"}, 'spec.loadBalancerClass: Invalid value: "a b"'),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "words"), CREATES)
async def test_what_a_new_service_may_not_be(cluster: Cluster, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError) as caught:
        cluster.create("a", **{"ports": HTTP, **spec})
    assert caught.value.code == 422 and words in str(caught.value)
    assert cluster.taken() == set()


ACCEPTED: list[dict[str, Any]] = [
    {"clusterIP": "None", "ports": None},
    {"ports": [{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53}]},
    {"type": "ExternalName", "externalName": "example.com.", "ports": None},
    {"type": "LoadBalancer", "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "::/0"]},
    {"type": "LoadBalancer", "loadBalancerClass": "example.com/a"},
    *[{"trafficDistribution": each} for each in ("PreferClose", "PreferSameNode", "PreferSameZone")],
    {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86400}}},
    {"externalIPs": ["203.0.113.250", "2001:db8::9"], "externalTrafficPolicy": "Local"},
    {"ports": [{"port": 80, "appProtocol": "kubernetes.io/h2c", "targetPort": "web-1"}]},
]


@pytest.mark.parametrize("spec", ACCEPTED)
async def test_what_it_may_be(cluster: Cluster, spec: dict[str, Any]) -> None:
    given = {key: value for key, value in ({"ports": HTTP} | spec).items() if value is not None}
    made = cluster.create("a", **given)["spec"]
    assert {key: made[key] for key in given if key not in ("ports", "clusterIP")} == {
        key: value for key, value in given.items() if key not in ("ports", "clusterIP")
    }


UPDATES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"clusterIP": "10.96.9.9"},
     'spec.clusterIPs[0]: Invalid value: ["10.96.9.9"]: may not change once set'),
    ({}, {"clusterIP": "None"}, "may not change once set"),
    ({"clusterIP": "None"}, {"clusterIP": "10.96.9.9"}, "may not change once set"),
    ({}, {"ipFamilies": ["IPv6"], "clusterIP": None, "clusterIPs": None}, "expected an IPv6 value"),
    ({"ipFamilyPolicy": "RequireDualStack"}, {"ipFamilies": ["IPv6", "IPv4"]}, "expected an IPv6 value"),
    ({"ipFamilyPolicy": "RequireDualStack"}, {"ipFamilies": ["IPv4"]},
     "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the "
     "secondary IP family"),
    ({"ipFamilyPolicy": "PreferDualStack", "clusterIP": "10.96.9.9"}, {"clusterIPs": ["10.96.9.9"]},
     "must be 'SingleStack' to release the secondary cluster IP"),
    ({"ipFamilyPolicy": "RequireDualStack"},
     {"clusterIPs": ["10.96.9.9", "fd00:10:96::9"], "clusterIP": "10.96.9.9"},
     "may not change once set"),
    ({"type": "LoadBalancer"}, {"loadBalancerClass": "example.com/b"},
     'spec.loadBalancerClass: Invalid value: "example.com/b": may not change once set'),
    (LOCAL, {"healthCheckNodePort": 30777}, "spec.healthCheckNodePort: Forbidden: field is immutable"),
    ({}, {"type": "ExternalName"}, "spec.externalName: Required value"),
    ({"type": "NodePort"}, {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 31999}]},
     "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "change", "words"), UPDATES)
async def test_what_an_update_may_not_do(
    cluster: Cluster, spec: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    made = cluster.create("a", **{"ports": HTTP, **spec})
    with pytest.raises(ApiError) as caught:
        cluster.patch("a", **change)
    assert caught.value.code == 422 and words in str(caught.value)
    assert cluster.find("services", "a", "") == made


async def test_families_that_the_cluster_lacks(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, SINGLE)
    cases = [
        ({"ipFamilyPolicy": "RequireDualStack"},
         'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for'),
        ({"ipFamilies": ["IPv6"]},
         'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'),
        ({"clusterIP": "fd00::9"}, "IPv6 is not configured on this cluster"),
    ]  # fmt: skip
    for spec, words in cases:
        with pytest.raises(ApiError) as caught:
            cluster.create("a", ports=HTTP, **spec)
        assert words in str(caught.value)
    cluster.store.close()


STATUSES: list[tuple[dict[str, Any], list[dict[str, Any]], str]] = [
    ({}, [{"ip": "192.0.2.1"}], "Forbidden: may only be used when `spec.type` is 'LoadBalancer'"),
    (
        LOCAL,
        [{"ip": "x"}],
        'status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address',
    ),
    (
        LOCAL,
        [{"hostname": "a.b", "ipMode": "VIP"}],
        "ipMode: Forbidden: may not be specified when `ip` is not set",
    ),
    (LOCAL, [{"hostname": "192.0.2.1"}], "must be a DNS name, not an IP address"),
    (LOCAL, [{"hostname": "A_b"}], 'status.loadBalancer.ingress[0].hostname: Invalid value: "A_b"'),
    (
        LOCAL,
        [{"ip": "192.0.2.1", "ipMode": "Other"}],
        'Unsupported value: "Other": supported values: "VIP", "Proxy"',
    ),
]


@pytest.mark.parametrize(("spec", "ingress", "words"), STATUSES)
async def test_what_a_balancers_status_may_not_say(
    cluster: Cluster, spec: dict[str, Any], ingress: list[dict[str, Any]], words: str
) -> None:
    cluster.create("a", ports=HTTP, **spec)
    kind, status = cluster.writer.registry.get("", "services"), {"loadBalancer": {"ingress": ingress}}
    with pytest.raises(ApiError) as caught:
        cluster.writer.update(kind, "default", "a", {"status": status}, PLAIN, "status")
    assert words in str(caught.value)


async def test_the_old_annotation_of_source_ranges(cluster: Cluster) -> None:
    annotation = "service.beta.kubernetes.io/load-balancer-source-ranges"
    kind = cluster.writer.registry.get("", "services")
    given = {
        "metadata": {"name": "a", "annotations": {annotation: "10.0.0.0/8, x"}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    }
    with pytest.raises(
        ApiError, match=rf'metadata\.annotations\[{annotation}\]: Invalid value: "x": must be'
    ):
        cluster.writer.create(kind, "default", given, PLAIN)


async def test_the_two_annotations_of_a_topology_say_the_same(cluster: Cluster) -> None:
    """S-34."""
    kind, prefix = cluster.writer.registry.get("", "services"), "service.kubernetes.io/topology-"
    annotations = {f"{prefix}mode": "Auto", f"{prefix}aware-hints": "Disabled"}
    given = {"metadata": {"name": "a", "annotations": annotations}, "spec": {"ports": [{"port": 80}]}}
    with pytest.raises(ApiError, match=rf"annotations\[{prefix}mode\]: Invalid value: \"Auto\": must match"):
        cluster.writer.create(kind, "default", given, PLAIN)


CIDRS: list[tuple[list[str], str]] = [
    ([], "spec.cidrs: Required value: at least one CIDR required"),
    (["10.0.0.0/24", "fd00::/112", "10.1.0.0/24"], "may only hold up to 2 values"),
    (["10.0.0.0/24", "10.1.0.0/24"], "may specify no more than one IP for each IP family"),
    (
        ["10.0.0.1/24"],
        'spec.cidrs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix',
    ),
    (["10.0.0.0"], "must be a valid CIDR value"),
    (["10.0.0.0/255.255.255.0"], "must be a valid CIDR value"),
    (["FD00::/112"], 'must be in canonical form ("fd00::/112")'),
]


@pytest.mark.parametrize(("cidrs", "words"), CIDRS)
async def test_what_a_service_cidr_may_not_be(cluster: Cluster, cidrs: list[str], words: str) -> None:
    with pytest.raises(ApiError) as caught:
        cluster.make("servicecidrs", "more", spec={"cidrs": cidrs})
    assert words in str(caught.value)


async def test_a_service_cidr_may_only_get_a_second_family(cluster: Cluster) -> None:
    cluster.make("servicecidrs", "more", spec={"cidrs": ["10.98.0.0/24"]})
    kind, how = (
        cluster.writer.registry.get("networking.k8s.io", "servicecidrs"),
        "application/merge-patch+json",
    )
    for cidrs, fine in (
        (["10.99.0.0/24"], False),
        (["10.98.0.0/24", "fd98::/112"], True),
        (["10.98.0.0/24"], False),
    ):
        change = {"spec": {"cidrs": cidrs}}
        if fine:
            assert (
                cluster.writer.patch(kind, "", "more", how, change, PLAIN).record.obj["spec"]
                == change["spec"]
            )
        else:
            with pytest.raises(ApiError, match=r"spec\.cidrs: Invalid value: .*: field is immutable"):
                cluster.writer.patch(kind, "", "more", how, change, PLAIN)


PARENT = {"resource": "services", "name": "a", "namespace": "default"}
IPS: list[tuple[str, dict[str, Any], str]] = [
    (
        "nonsense",
        PARENT,
        'metadata.name: Invalid value: "nonsense": must be a valid IP address in canonical form',
    ),
    ("FD00::1", PARENT, "must be a valid IP address in canonical form"),
    ("10.0.0.01", PARENT, "must be a valid IP address in canonical form"),
    ("10.0.0.1", {"resource": "services"}, "spec.parentRef.name: Required value"),
    ("10.0.0.1", PARENT | {"name": "a/b"}, 'spec.parentRef.name: Invalid value: "a/b"'),
    ("10.0.0.1", PARENT | {"group": "A"}, 'spec.parentRef.group: Invalid value: "A"'),
]


@pytest.mark.parametrize(("name", "parent", "words"), IPS)
async def test_what_an_ipaddress_may_not_be(
    cluster: Cluster, name: str, parent: dict[str, Any], words: str
) -> None:
    with pytest.raises(ApiError) as caught:
        cluster.make("ipaddresses", name, spec={"parentRef": parent})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("010.000.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("::ffff:010.0.0.5", "10.0.0.5"),
        ("FD00:0:0::1", "fd00::1"),
        ("10.0.0", None),
        ("10.0.0.256", None),
        ("fe80::1%eth0", None),
        ("", None),
    ],
)
def test_stored_addresses_are_read_leniently(text: str, read: str | None) -> None:
    """S-13."""
    address = addresses.parse(text)
    assert (None if address is None else str(address)) == read
