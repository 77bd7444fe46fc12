"""ServiceCIDRs come, serve and go; Service ``default/kubernetes`` is there whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from service_cluster import DUAL, PLAIN, SINGLE, SIX, Cluster

from tulle.apiserver.own_service import Advertised
from tulle.apiserver.service_cidrs import FINALIZER
from tulle.errors import ApiError

HTTP = [{"port": 80}]
CIDRS = "networking.k8s.io"
SLICES = "discovery.k8s.io"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path, SINGLE)
    yield cluster
    cluster.store.close()


def ready(cidr: dict[str, Any] | None) -> tuple[str, str]:
    assert cidr is not None
    (condition,) = cidr["status"]["conditions"]
    return condition["status"], condition["reason"]


async def test_the_clusters_own_cidr(cluster: Cluster) -> None:
    own = cluster.find("servicecidrs", "kubernetes")
    assert own is not None and own["spec"]["cidrs"] == list(SINGLE)
    assert ready(own) == ("True", "") and own["metadata"]["finalizers"] == [FINALIZER]
    cluster.delete("servicecidrs", "kubernetes", CIDRS)
    cluster.settle()
    assert ready(cluster.find("servicecidrs", "kubernetes")) == ("False", "Terminating")


async def test_a_cidr_in_use_stays_and_gives_no_more(cluster: Cluster) -> None:
    cluster.make("servicecidrs", "more", spec={"cidrs": ["10.98.0.0/24"]})
    cluster.settle()
    cluster.create("a", ports=HTTP, clusterIP="10.98.0.9")
    cluster.delete("servicecidrs", "more", CIDRS)
    cluster.settle()
    leaving = cluster.find("servicecidrs", "more")
    assert leaving is not None and ready(leaving) == ("False", "Terminating")
    assert "There are still IPAddresses referencing" in leaving["status"]["conditions"][0]["message"]
    with pytest.raises(
        ApiError, match=r"is not in the valid range\. The range of valid IPs is 10\.96\.0\.0/16"
    ):
        cluster.create("b", ports=HTTP, clusterIP="10.98.0.10")
    assert cluster.patch("a", selector={"b": "c"})["spec"]["clusterIP"] == "10.98.0.9"
    cluster.delete("services", "a")
    cluster.settle()
    assert cluster.find("servicecidrs", "more") is None


async def test_a_cidr_goes_when_another_one_holds_its_addresses(cluster: Cluster) -> None:
    cluster.make("servicecidrs", "more", spec={"cidrs": ["10.98.0.0/24"]})
    cluster.create("a", ports=HTTP, clusterIP="10.98.0.9")
    cluster.delete("servicecidrs", "more", CIDRS)
    cluster.settle()
    cluster.make("servicecidrs", "wider", spec={"cidrs": ["10.98.0.0/16"]})
    cluster.settle()
    assert cluster.find("servicecidrs", "more") is None
    assert ready(cluster.find("servicecidrs", "wider")) == ("True", "")


async def test_a_service_stays_as_it_is_when_its_family_leaves(cluster: Cluster) -> None:
    cluster.make("servicecidrs", "six", spec={"cidrs": list(SIX)})
    cluster.create("a", ports=HTTP, ipFamilyPolicy="RequireDualStack")
    cluster.delete("servicecidrs", "six", CIDRS)
    cluster.settle()
    assert len(cluster.patch("a", selector={"b": "c"})["spec"]["clusterIPs"]) == 2


async def test_an_ipaddress_that_was_deleted_without_its_service_comes_back(cluster: Cluster) -> None:
    ip = cluster.create("a", ports=HTTP)["spec"]["clusterIP"]
    cluster.delete("ipaddresses", ip, CIDRS)
    cluster.settle()
    assert cluster.taken() == {ip}


async def test_settings_that_differ_from_what_is_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A second family is added; any other change would pull the addresses from under the Services."""
    for cidrs, stored, said in (
        (SINGLE, SINGLE, False),
        (DUAL, DUAL, False),
        (("10.1.0.0/16",), DUAL, True),
    ):
        cluster = Cluster(tmp_path, cidrs)
        found = cluster.find("servicecidrs", "kubernetes")
        cluster.store.close()
        assert found is not None and found["spec"]["cidrs"] == list(stored)
        assert ("--service-cidr 10.1.0.0/16: ServiceCIDR kubernetes has" in caplog.text) is said


async def test_the_apis_own_service(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, DUAL, advertised=Advertised(["192.0.2.1", "2001:db8::1"], 6443))
    service = cluster.find("services", "kubernetes", "")
    assert service is not None
    assert service["metadata"]["labels"] == {"component": "apiserver", "provider": "kubernetes"}
    assert service["spec"]["clusterIPs"] == ["10.96.0.1"]
    assert service["spec"]["ipFamilyPolicy"] == "SingleStack"
    assert service["spec"]["ports"] == [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]
    endpoints, found = (
        cluster.find("endpoints", "kubernetes", ""),
        cluster.find("endpointslices", "kubernetes", SLICES),
    )
    assert endpoints is not None and found is not None
    ports = [{"name": "https", "port": 6443, "protocol": "TCP"}]
    assert endpoints["subsets"] == [{"addresses": [{"ip": "192.0.2.1"}], "ports": ports}]
    assert endpoints["metadata"]["labels"] == {"endpointslice.kubernetes.io/skip-mirror": "true"}
    assert found["endpoints"] == [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}]
    assert (found["ports"], found["addressType"]) == (ports, "IPv4")
    assert found["metadata"]["labels"] == {"kubernetes.io/service-name": "kubernetes"}
    cluster.store.close()


@pytest.mark.parametrize(
    ("plural", "group"), [("services", ""), ("endpoints", ""), ("endpointslices", SLICES)]
)
async def test_it_comes_back_and_is_put_right(cluster: Cluster, plural: str, group: str) -> None:
    before = cluster.find(plural, "kubernetes", group) or {}
    cluster.delete(plural, "kubernetes", group)
    cluster.settle()
    again = cluster.find(plural, "kubernetes", group) or {}
    changed = {key: value for key, value in again.items() if key != "metadata"}
    assert changed == {key: value for key, value in before.items() if key != "metadata"}
    kind, how = cluster.writer.registry.get(group, plural), "application/merge-patch+json"
    wrong: dict[str, Any] = {
        "services": {"spec": {"ports": [{"port": 80}]}},
        "endpoints": {"subsets": []},
        "endpointslices": {"endpoints": [], "metadata": {"labels": None}},
    }
    cluster.writer.patch(kind, "default", "kubernetes", how, wrong[plural], PLAIN)
    cluster.settle()
    restored = cluster.find(plural, "kubernetes", group) or {}
    assert restored["metadata"]["labels"] == again["metadata"]["labels"]
    assert {key: value for key, value in restored.items() if key != "metadata"} == changed


async def test_a_new_address_and_family_of_the_api(tmp_path: Path) -> None:
    Cluster(tmp_path, SINGLE).store.close()
    cluster = Cluster(tmp_path, SINGLE, advertised=Advertised(["192.0.2.2"], 443))
    found = cluster.find("endpointslices", "kubernetes", SLICES)
    assert found is not None and found["endpoints"][0]["addresses"] == ["192.0.2.2"]
    assert found["ports"][0]["port"] == 443
    kind = cluster.writer.registry.get(SLICES, "endpointslices")
    cluster.writer.delete(kind, "default", "kubernetes", {}, PLAIN)
    cluster.make("endpointslices", "kubernetes", SLICES, addressType="IPv6", endpoints=[])
    cluster.settle()
    found = cluster.find("endpointslices", "kubernetes", SLICES)
    assert found is not None and found["addressType"] == "IPv4" and len(found["endpoints"]) == 1
    cluster.store.close()


async def test_without_an_address_there_is_no_endpoint(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, SIX, advertised=Advertised(["192.0.2.1"], 6443))
    found = cluster.find("endpointslices", "kubernetes", SLICES)
    assert found is not None and (found["addressType"], found["endpoints"]) == ("IPv6", [])
    assert (cluster.find("services", "kubernetes", "") or {})["spec"]["clusterIP"] == "fd00:10:96::1"
    cluster.store.close()


async def test_it_looks_again_when_something_changes(cluster: Cluster) -> None:
    running = asyncio.create_task(cluster.upkeep.run())
    back = asyncio.Event()
    cluster.store.listen("/services", lambda event: back.set() if event.type == "ADDED" else None)
    cluster.delete("services", "kubernetes")
    async with asyncio.timeout(5):
        await back.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert cluster.find("services", "kubernetes", "") is not None
