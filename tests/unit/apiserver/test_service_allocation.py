"""Cluster IPs and node ports: who gets which, when they are free again, that none is given twice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_cluster import DUAL, Cluster
from tests.effort import effort

from tulle.apiserver import addresses
from tulle.apiserver.addresses import draw
from tulle.apiserver.service_allocation import SERVICES, ports_of
from tulle.apiserver.writing import Options
from tulle.errors import ApiError

HTTP = [{"port": 80}]
DRY = Options(dry_run=True)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.store.close()


async def test_each_cluster_ip_has_an_ipaddress_as_long_as_it_has_a_service(cluster: Cluster) -> None:
    spec = cluster.create("a", ports=HTTP, ipFamilyPolicy="RequireDualStack")["spec"]
    four, six = spec["clusterIPs"]
    for ip, family in ((four, "IPv4"), (six, "IPv6")):
        found = cluster.find("ipaddresses", ip)
        assert found is not None
        assert found["spec"]["parentRef"] == {"resource": "services", "namespace": "default", "name": "a"}
        assert found["metadata"]["labels"] == {
            "ipaddress.kubernetes.io/ip-family": family,
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }
    cluster.delete("services", "a")
    assert cluster.taken() == set()


async def test_a_service_that_waits_for_its_finalizers_keeps_its_addresses(cluster: Cluster) -> None:
    made = cluster.create("a", ports=HTTP)
    kind = cluster.writer.registry.get("", "services")
    made["metadata"]["finalizers"] = ["example.com/wait"]
    cluster.writer.update(kind, "default", "a", made, Options())
    cluster.delete("services", "a")
    assert cluster.taken() == set(made["spec"]["clusterIPs"])
    how, done = "application/merge-patch+json", {"metadata": {"finalizers": None}}
    assert cluster.writer.patch(kind, "default", "a", how, done, Options()).gone
    assert cluster.taken() == set()


async def test_what_is_asked_for_is_given_or_refused_with_the_reason(cluster: Cluster) -> None:
    cluster.create("a", type="NodePort", clusterIP="10.96.7.7", ports=[{"port": 80, "nodePort": 30100}])
    one, range_ = "spec.clusterIPs: Invalid value: ", "The range of valid ports is 30000-32767"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"clusterIP": "10.96.7.7"},
         f'{one}["10.96.7.7"]: failed to allocate IP 10.96.7.7: provided IP is already allocated'),
        ({"clusterIP": "10.97.0.1"},
         "the provided IP (10.97.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16"),
        ({"clusterIP": "10.96.0.0"}, "the provided IP (10.96.0.0) is not in the valid range"),
        ({"clusterIP": "10.96.255.255"}, "the provided IP (10.96.255.255) is not in the valid range"),
        ({"clusterIP": "10.96.0.1"}, "provided IP is already allocated"),
        ({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv6"]},
         'clusterIPs[0]: Invalid value: "10.96.0.9": expected an IPv6 value as indicated by `ipFamilies[0]`'),
        ({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30100}]},
         "spec.ports[0].nodePort: Invalid value: 30100: provided port is already allocated"),
        ({"type": "NodePort", "ports": [{"port": 1, "nodePort": 29999}]},
         f"spec.ports[0].nodePort: Invalid value: 29999: provided port is not in the valid range. {range_}"),
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30100},
         "spec.healthCheckNodePort: Invalid value: 30100: provided port is already allocated"),
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 80},
         f"spec.healthCheckNodePort: Invalid value: 80: provided port is not in the valid range. {range_}"),
    ]  # fmt: skip
    version = cluster.store.version
    for spec, words in cases:
        with pytest.raises(ApiError) as caught:
            cluster.create("b", **{"ports": HTTP, **spec})
        assert caught.value.code == 422 and words in str(caught.value)
    assert cluster.store.version == version


async def test_a_refused_or_dry_write_takes_nothing(cluster: Cluster) -> None:
    cluster.create("a", ports=HTTP)
    version, taken = cluster.store.version, cluster.taken()
    wanted = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30200}], "clusterIP": "10.96.8.8"}
    assert cluster.create("b", DRY, **wanted)["spec"]["clusterIPs"] == ["10.96.8.8"]
    assert cluster.patch("a", DRY, type="NodePort")["spec"]["ports"][0]["nodePort"]
    with pytest.raises(ApiError, match="sessionAffinityConfig"):
        affinity = {"clientIP": {"timeoutSeconds": 0}}
        cluster.create("b", sessionAffinity="ClientIP", sessionAffinityConfig=affinity, **wanted)
    assert (cluster.store.version, cluster.taken()) == (version, taken)
    assert cluster.create("b", **wanted)["spec"]["ports"][0]["nodePort"] == 30200


async def test_a_write_that_the_database_refuses_leaks_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    wanted = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30200}], "clusterIP": "10.96.8.8"}
    with sqlite3.connect(tmp_path / "db", isolation_level=None) as other:
        other.execute("PRAGMA busy_timeout = 0")
        cluster.store._db.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        cluster.create("a", **wanted)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await cluster.store.committed()
        assert cluster.taken() == set()
        other.execute("ROLLBACK")
    other.close()
    assert cluster.create("b", **wanted)["spec"]["clusterIP"] == "10.96.8.8"
    cluster.store.close()


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    spec = cluster.create("a", type="LoadBalancer", externalTrafficPolicy="Local", ports=HTTP)["spec"]
    cluster.store.close()
    again = Cluster(tmp_path)
    for port in (spec["ports"][0]["nodePort"], spec["healthCheckNodePort"]):
        with pytest.raises(ApiError, match="provided port is already allocated"):
            again.create("b", type="NodePort", ports=[{"port": 80, "nodePort": port}])
    with pytest.raises(ApiError, match="provided IP is already allocated"):
        again.create("b", ports=HTTP, clusterIP=spec["clusterIP"])
    again.delete("services", "a")
    assert again.create("b", ports=HTTP, clusterIP=spec["clusterIP"])
    again.store.close()


async def test_one_number_for_two_protocols(cluster: Cluster) -> None:
    """S-26: in a new Service one port gets one node port, and one node port may be asked for twice."""
    dns = [{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53, "protocol": "TCP"}]
    shared = cluster.create("a", type="NodePort", ports=dns)["spec"]["ports"]
    assert shared[0]["nodePort"] == shared[1]["nodePort"]
    asked = cluster.create("b", type="NodePort", ports=[dns[0], dns[1] | {"nodePort": 30300}])["spec"][
        "ports"
    ]
    assert [port["nodePort"] for port in asked] == [30300, 30300]
    again = [port | {"nodePort": 30400} for port in asked]
    assert [port["nodePort"] for port in cluster.patch("b", ports=again)["spec"]["ports"]] == [30400, 30400]
    assert cluster.create("c", type="NodePort", ports=[{"port": 1, "nodePort": 30300}])


async def test_a_balancer_may_go_without_node_ports(cluster: Cluster) -> None:
    """S-25, and that those that are there stay until they are taken away by name."""
    spec = cluster.create("a", type="LoadBalancer", allocateLoadBalancerNodePorts=False, ports=HTTP)["spec"]
    assert "nodePort" not in spec["ports"][0]
    with_port = cluster.patch("a", allocateLoadBalancerNodePorts=True)["spec"]
    number = with_port["ports"][0]["nodePort"]
    assert cluster.patch("a", allocateLoadBalancerNodePorts=False)["spec"]["ports"][0]["nodePort"] == number


async def test_the_port_for_health_checks(cluster: Cluster) -> None:
    """S-62: only with externalTrafficPolicy Local; it does not change, and is free again with the policy."""
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": HTTP}
    number = cluster.create("a", **local)["spec"]["healthCheckNodePort"]
    asked = cluster.create("b", **local, healthCheckNodePort=30500)["spec"]
    assert number != 30500 and asked["healthCheckNodePort"] == 30500
    with pytest.raises(ApiError, match=r"spec\.healthCheckNodePort: Forbidden: field is immutable"):
        cluster.patch("b", healthCheckNodePort=30501)
    with pytest.raises(ApiError, match=r"30500: provided port is already allocated"):
        cluster.create("c", type="NodePort", ports=[{"port": 80, "nodePort": 30500}])
    cluster.patch("b", externalTrafficPolicy="Cluster")
    assert cluster.create("c", type="NodePort", ports=[{"port": 80, "nodePort": 30500}])


async def test_full_ranges_say_so_and_serve_again_when_something_is_free(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ("10.96.0.0/29",), range(30000, 30003))
    for number in range(5):
        cluster.create(str(number), ports=HTTP)
    assert cluster.taken() == {f"10.96.0.{last}" for last in range(2, 7)}
    with pytest.raises(ApiError, match="failed to allocate a serviceIP: range is full") as caught:
        cluster.create("more", ports=HTTP)
    assert caught.value.code == 500
    cluster.make("servicecidrs", "more", spec={"cidrs": ["10.98.0.0/28"]})
    assert cluster.create("more", ports=HTTP)["spec"]["clusterIP"].startswith("10.98.0.")
    for number in range(3):
        cluster.patch(str(number), type="NodePort")
    with pytest.raises(ApiError, match="failed to allocate a nodePort: range is full"):
        cluster.patch("3", type="NodePort")
    cluster.patch("0", type="ClusterIP")
    assert cluster.patch("3", type="NodePort")["spec"]["ports"][0]["nodePort"] in range(30000, 30003)
    cluster.store.close()


@given(st.integers(0, 40), st.integers(0, 40), st.sets(st.integers(0, 40)))
def test_a_drawn_number_is_free_and_a_reserved_one_comes_last(
    size: int, reserved: int, taken: set[int]
) -> None:
    found = draw(0, size, min(reserved, size + 1), taken.__contains__)
    free = set(range(size + 1)) - taken
    assert found in free if free else found is None
    if free and max(free) >= reserved:
        assert found is not None and found >= reserved


@pytest.mark.parametrize(
    ("cidr", "first", "last"),
    [
        ("10.96.0.0/16", "10.96.0.1", "10.96.255.254"),
        ("10.96.0.0/29", "10.96.0.1", "10.96.0.6"),
        ("fd00:10:96::/112", "fd00:10:96::1", "fd00:10:96::ffff"),
        ("fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff"),
    ],
)
def test_what_a_service_cidr_gives(cidr: str, first: str, last: str) -> None:
    network = addresses.parse_network(cidr)
    assert network is not None and addresses.first_of(network) == first
    for ip, inside in ((first, True), (last, True), (str(network.network_address), False)):
        address = addresses.parse(ip)
        assert address is not None and addresses.holds(network, address) is inside
    assert addresses.holds(network, addresses.parse(last) + 1) is False  # type: ignore[operator]
    drawn = addresses.draw_address(network, lambda ip: False)
    assert drawn is not None and addresses.holds(network, addresses.parse(drawn))  # type: ignore[arg-type]


SPECS = st.fixed_dictionaries(
    {"type": st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])},
    optional={
        "ipFamilyPolicy": st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack", None]),
        "ports": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["a", "b"]), "port": st.integers(1, 3)},
                optional={"nodePort": st.integers(30000, 30005)},
            ),
            max_size=2,
        ),
        "clusterIP": st.sampled_from(["None", "10.96.0.5", "fd00:10:96::5", None]),
        "externalName": st.just("a.b"),
        "externalTrafficPolicy": st.sampled_from(["Local", "Cluster", None]),
        "healthCheckNodePort": st.integers(30000, 30005),
    },
)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "delete"]), st.sampled_from("xyz"), SPECS), max_size=12)


@effort(0.6)
@given(steps=STEPS)
def test_whatever_happens_what_is_taken_is_what_services_have(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, dict[str, Any]]]
) -> None:
    asyncio.run(take_steps(tmp_path_factory.mktemp("steps"), steps))


async def take_steps(folder: Path, steps: list[tuple[str, str, dict[str, Any]]]) -> None:
    cluster = Cluster(folder, DUAL, range(30000, 30006))
    for verb, name, spec in steps:
        try:
            if verb == "delete":
                cluster.delete("services", name)
            elif cluster.find("services", name, "") is None:
                cluster.create(name, **{key: value for key, value in spec.items() if value is not None})
            else:
                cluster.patch(name, **spec)
        except ApiError as error:
            assert error.code in (404, 422, 500), error
            assert error.code != 500 or "range is full" in str(error)
        check_books(cluster)
    cluster.store.close()


def check_books(cluster: Cluster) -> None:
    services = [record.obj for _, record in cluster.store.scan(SERVICES)]
    ips = [ip for each in services for ip in each["spec"].get("clusterIPs", ()) if ip != "None"]
    assert len(ips) == len(set(ips)) and set(ips) - {"10.96.0.1"} == cluster.taken()
    ports = Counter(port for each in services for port in ports_of(each))
    assert all(count == 1 for count in ports.values())
