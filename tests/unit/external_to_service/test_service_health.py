"""S-62: which Services are answered for, how many endpoints count, and what the answer is."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from tulle.external_to_service.health import HealthCheck, answer, health_check, listeners
from tulle.model.services import EndpointSlice, Service

READY = {"ready": True, "serving": True, "terminating": False}
LEAVING = {"ready": False, "serving": True, "terminating": True}
PUBLISHED = {"ready": True, "serving": True, "terminating": True}
KEY = ("default", "web")


def service(**spec: Any) -> Service:
    asked = {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1", "fd00::1"],
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 31000,
        **spec,
    }
    return msgspec.convert({"metadata": {"name": "web", "namespace": "default"}, "spec": asked}, Service)


def slice_of(*endpoints: tuple[str, dict[str, Any]], node: str = "here", **fields: Any) -> EndpointSlice:
    body = {
        "metadata": {"name": "web-1", "namespace": "default"},
        "addressType": "IPv6" if endpoints and ":" in endpoints[0][0] else "IPv4",
        "endpoints": [{"addresses": [a], "conditions": c, "nodeName": node} for a, c in endpoints],
        "ports": [{"name": "http", "port": 80}],
        **fields,
    }
    return msgspec.convert(body, EndpointSlice)


COUNTS: dict[str, tuple[list[EndpointSlice], dict[int, int]]] = {
    "no slice": ([], {4: 0, 6: 0}),
    "one": ([slice_of(("10.244.0.1", READY))], {4: 1, 6: 0}),
    "each family for itself": (
        [slice_of(("10.244.0.1", READY), ("10.244.0.2", READY)), slice_of(("fd00::2", READY))],
        {4: 2, 6: 1},
    ),
    "elsewhere": ([slice_of(("10.244.0.1", READY), node="there")], {4: 0, 6: 0}),
    "nobody says where": ([slice_of(("10.244.0.1", READY), node="")], {4: 0, 6: 0}),
    "conditions that are not told": ([slice_of(("10.244.0.1", {}))], {4: 1, 6: 0}),
    "not ready": ([slice_of(("10.244.0.1", {"ready": False}))], {4: 0, 6: 0}),
    "leaving, as trap 10 has it": ([slice_of(("10.244.0.1", LEAVING))], {4: 0, 6: 0}),
    "leaving, and called ready by publishNotReadyAddresses": (
        [slice_of(("10.244.0.1", PUBLISHED))],
        {4: 0, 6: 0},
    ),
    "one address with two ports, in two slices, written in two ways": (
        [
            slice_of(("10.244.0.1", READY)),
            slice_of(("10.244.000.001", READY), ports=[{"name": "a", "port": 1}]),
        ],
        {4: 1, 6: 0},
    ),
    "no address": ([slice_of(("x", READY)), slice_of(("10.244.0.1", READY))], {4: 1, 6: 0}),
    "without ports": ([slice_of(("10.244.0.1", READY), ports=None)], {4: 0, 6: 0}),
    "names": ([slice_of(("a.example", READY), addressType="FQDN")], {4: 0, 6: 0}),
}


@pytest.mark.parametrize(("slices", "ready"), COUNTS.values(), ids=COUNTS)
def test_what_counts(slices: list[EndpointSlice], ready: dict[int, int]) -> None:
    assert health_check(service(), slices, "here") == HealthCheck(31000, ready)


def test_one_family() -> None:
    check = health_check(service(clusterIPs=["10.96.0.1"]), [slice_of(("fd00::2", READY))], "here")
    assert check == HealthCheck(31000, {4: 0})


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "NodePort"},
        {"type": "ClusterIP"},
        {"externalTrafficPolicy": "Cluster"},
        {"externalTrafficPolicy": None},
        {"healthCheckNodePort": 0},
        {"clusterIP": "None"},
        {"clusterIP": ""},
    ],
)
def test_who_asks_for_none(spec: dict[str, Any]) -> None:
    assert health_check(service(**spec), [slice_of(("10.244.0.1", READY))], "here") is None


@pytest.mark.parametrize("label", ["service-proxy-name", "headless"])
def test_another_proxys_service(label: str) -> None:
    """S-03."""
    built = msgspec.to_builtins(service())
    built["metadata"]["labels"] = {f"service.kubernetes.io/{label}": ""}
    assert health_check(msgspec.convert(built, Service), [], "here") is None


V4, V6 = ip_address("192.0.2.1"), ip_address("2001:db8::1")


def test_where_to_listen() -> None:
    """Each family that the Service has, at each address of the node."""
    checks = {("a", "dual"): HealthCheck(31000, {4: 0, 6: 1}), ("a", "one"): HealthCheck(31001, {6: 0})}
    wanted, failures = listeners(checks, [V4, V6])
    assert wanted == {(V4, 31000): ("a", "dual"), (V6, 31000): ("a", "dual"), (V6, 31001): ("a", "one")}
    assert failures == {}


def test_a_port_that_two_have() -> None:
    checks = {name: HealthCheck(31000, {4: 0}) for name in (("b", "x"), ("a", "y"))}
    wanted, failures = listeners(checks, [V4])
    assert wanted == {(V4, 31000): ("a", "y")}
    assert failures == {("b", "x"): "port 31000 is that of Service a/y"}


def test_a_port_that_is_none() -> None:
    wanted, failures = listeners({KEY: HealthCheck(70000, {4: 0})}, [V4])
    assert (wanted, failures) == ({}, {KEY: "70000 is not a port from 1 to 65535"})


@pytest.mark.parametrize(
    ("ready", "healthy", "status"), [(2, True, 200), (0, True, 503), (2, False, 503), (0, False, 503)]
)
def test_the_answer(ready: int, healthy: bool, status: int) -> None:
    reply = answer(KEY, ready, healthy)
    assert (reply.status, reply.type) == (status, "application/json")
    assert dict(reply.headers) == {
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": str(ready),
    }
    assert json.loads(reply.body) == {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": ready,
        "serviceProxyHealthy": healthy,
    }
