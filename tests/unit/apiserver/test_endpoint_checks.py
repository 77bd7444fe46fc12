"""What is refused about EndpointSlices and Endpoints, in Kubernetes' words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from service_cluster import PLAIN, Cluster

from tulle.errors import ApiError

GROUP = "discovery.k8s.io"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.store.close()


def at(**fields: Any) -> dict[str, Any]:
    """A slice of one endpoint, with further ``fields`` of that."""
    return {"endpoints": [{"addresses": ["10.0.0.1"], **fields}]}


def zones(*names: str) -> dict[str, Any]:
    return at(hints={"forZones": [{"name": name} for name in names]})


SLICES: list[tuple[dict[str, Any], str]] = [
    ({"addressType": "IPX"},
     'addressType: Unsupported value: "IPX": supported values: "IPv4", "IPv6", "FQDN"'),
    ({"addressType": None}, "addressType: Required value"),
    (at(addresses=[]), "endpoints[0].addresses: Required value: must contain at least 1 address"),
    ({"endpoints": [{}]}, "endpoints[0].addresses: Required value"),
    (at(addresses=["fd00::1"]),
     'endpoints[0].addresses[0]: Invalid value: "fd00::1": must be a valid IPv4 address'),
    (at() | {"addressType": "IPv6"}, "must be a valid IPv6 address"),
    (at(addresses=["::ffff:10.0.0.1"]), "must be a valid IPv4 address"),
    (at(addresses=["x"]), "must be a valid IPv4 address"),
    (at(addresses=["010.0.0.1"]), "must not have leading 0s"),
    (at(addresses=["127.0.0.1"]), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
    (at(addresses=["0.0.0.0"]), "may not be unspecified (0.0.0.0)"),
    (at(addresses=["169.254.1.1"]), "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
    (at(addresses=["localhost"]) | {"addressType": "FQDN"}, "should be a domain with at least two segments"),
    (at(addresses=[f"10.0.0.{n}" for n in range(1, 102)]),
     "endpoints[0].addresses: Too many: 101: must have at most 100 items"),
    ({"endpoints": [{"addresses": ["10.0.0.1"]}] * 1001},
     "endpoints: Too many: 1001: must have at most 1000 items"),
    (at(hostname="A"), 'endpoints[0].hostname: Invalid value: "A": a lowercase RFC 1123 label'),
    (at(hostname="a.b"), 'endpoints[0].hostname: Invalid value: "a.b"'),
    (at(nodeName="A"), 'endpoints[0].nodeName: Invalid value: "A": a lowercase RFC 1123 subdomain'),
    (zones(*"abcdefghi"), "endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"),
    (zones("a", "a"), 'endpoints[0].hints.forZones[1].name: Duplicate value: "a"'),
    (zones(""), "endpoints[0].hints.forZones[0].name: Required value"),
    (zones("a b"), 'endpoints[0].hints.forZones[0].name: Invalid value: "a b"'),
    (at(hints={"forNodes": [{"name": "A"}]}), 'endpoints[0].hints.forNodes[0].name: Invalid value: "A"'),
    (at(hints={"forNodes": [{"name": f"n{n}"} for n in range(9)]}), "hints.forNodes: Too many: 9"),
    ({"ports": [{"port": 80}, {"port": 81}]}, 'ports[1].name: Duplicate value: ""'),
    ({"ports": [{"name": "A", "port": 80}]}, 'ports[0].name: Invalid value: "A"'),
    ({"ports": [{"port": 70000}]}, "ports[0].port: Invalid value: 70000"),
    ({"ports": [{"port": 1, "protocol": "ICMP"}]}, 'ports[0].protocol: Unsupported value: "ICMP"'),
    ({"ports": [{"port": 1, "appProtocol": "a b"}]}, 'ports[0].appProtocol: Invalid value: "a b"'),
    ({"ports": [{"name": f"p{n}", "port": 80} for n in range(20001)]},
     "ports: Too many: 20001: must have at most 20000 items"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "words"), SLICES)
async def test_what_a_slice_may_not_be(cluster: Cluster, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError) as caught:
        cluster.make("endpointslices", "a", GROUP, **{"addressType": "IPv4", "endpoints": [], **fields})
    assert caught.value.code == 422 and words in str(caught.value)


async def test_what_a_slice_may_be(cluster: Cluster) -> None:
    made = cluster.make(
        "endpointslices",
        "a",
        GROUP,
        addressType="IPv4",
        endpoints=[
            {
                "addresses": ["10.0.0.1"],
                "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "n.a"}]},
            },
            {"addresses": ["10.0.0.1"], "hostname": "h", "nodeName": "n", "conditions": {"ready": False}},
        ],
        ports=[{"port": 80}, {"name": "all"}],
    )
    assert made["ports"] == [
        {"name": "", "port": 80, "protocol": "TCP"},
        {"name": "all", "protocol": "TCP"},
    ]
    assert cluster.make("endpointslices", "b", GROUP, addressType="FQDN", **at(addresses=["a.example."]))


async def test_an_update_of_a_slice_is_checked_where_it_changes(cluster: Cluster) -> None:
    """Also the kind of addresses may not change; that is said once, and not for every endpoint."""
    endpoints = [{"addresses": [f"10.0.0.{n}"]} for n in range(1, 4)]
    made = cluster.make("endpointslices", "a", GROUP, addressType="IPv4", endpoints=endpoints)
    kind = cluster.writer.registry.get(GROUP, "endpointslices")
    for change, words in (
        (
            {"endpoints": [*endpoints[:2], {"addresses": ["x"]}]},
            'endpoints[2].addresses[0]: Invalid value: "x"',
        ),
        ({"endpoints": [{"addresses": ["x"]}, *endpoints]}, 'endpoints[0].addresses[0]: Invalid value: "x"'),
        ({"addressType": "IPv6", "endpoints": []}, 'addressType: Invalid value: "IPv6": field is immutable'),
    ):
        with pytest.raises(ApiError) as caught:
            cluster.writer.update(kind, "default", "a", made | change, PLAIN)
        assert words in str(caught.value)
        made = cluster.find("endpointslices", "a", GROUP) or {}


ENDPOINTS: list[tuple[list[dict[str, Any]], str]] = [
    ([{"ports": [{"port": 80}]}],
     "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"),
    ([{"addresses": [{"ip": "x"}]}],
     'subsets[0].addresses[0].ip: Invalid value: "x": must be a valid IP address'),
    ([{"notReadyAddresses": [{"ip": "::1"}]}],
     'subsets[0].notReadyAddresses[0].ip: Invalid value: "::1": may not be in the loopback range'),
    ([{"addresses": [{"ip": "10.0.0.1", "hostname": "A"}]}],
     'subsets[0].addresses[0].hostname: Invalid value'),
    ([{"addresses": [{"ip": "10.0.0.1", "nodeName": "A"}]}],
     'subsets[0].addresses[0].nodeName: Invalid value'),
    ([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}, {"name": "b", "port": 2}]}],
     "subsets[0].ports[0].name: Required value"),
    ([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{}]}], "subsets[0].ports[0].port: Required value"),
    ([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "A", "port": 1}]}],
     'subsets[0].ports[0].name: Invalid value: "A"'),
]  # fmt: skip


@pytest.mark.parametrize(("subsets", "words"), ENDPOINTS)
async def test_what_endpoints_may_not_be(cluster: Cluster, subsets: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ApiError) as caught:
        cluster.make("endpoints", "a", "", subsets=subsets)
    assert caught.value.code == 422 and words in str(caught.value)
