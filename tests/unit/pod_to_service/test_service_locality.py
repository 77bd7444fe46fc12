"""S-41, S-42, S-71: Services that a Local policy leaves without endpoints on this node."""

from __future__ import annotations

from typing import Any

import pytest
from service_objects import HTTP, endpoint, endpoint_slice, service

from tulle.model.services import Endpoint, ServicePort
from tulle.pod_to_service.locality import lacks_local

LOCAL = {"internal_traffic_policy": "Local"}
FROM_OUTSIDE = {"type": "NodePort", "ports": (ServicePort(80, "http", "TCP", 30080),)}
EXTERNAL = {"external_traffic_policy": "Local", **FROM_OUTSIDE}
HERE, THERE = endpoint("10.244.0.1", node="here"), endpoint("10.244.1.1")


@pytest.mark.parametrize(
    ("spec", "endpoints", "lacking"),
    [
        ({}, (THERE,), set()),
        (LOCAL, (), set()),
        (LOCAL, (THERE,), {(4, "internal")}),
        (LOCAL, (THERE, HERE), set()),
        (LOCAL, (THERE, endpoint("10.244.0.1", node="here", state="leaving")), set()),
        (LOCAL, (THERE, endpoint("10.244.0.1", node="here", state="unready")), {(4, "internal")}),
        (LOCAL, (endpoint("10.244.1.1", state="unready"),), set()),
        (EXTERNAL, (THERE,), {(4, "external")}),
        (EXTERNAL, (HERE,), set()),
        ({"external_traffic_policy": "Local"}, (THERE,), set()),
        (LOCAL | EXTERNAL, (THERE,), {(4, "internal"), (4, "external")}),
        (LOCAL | {"type": "ExternalName"}, (THERE,), set()),
    ],
)
def test_one_family(
    spec: dict[str, Any], endpoints: tuple[Endpoint, ...], lacking: set[tuple[int, str]]
) -> None:
    assert lacks_local(service(**spec), [endpoint_slice(*endpoints)], "here") == lacking


def test_each_family_and_port_for_itself() -> None:
    asked = service("10.96.0.1", "fd00::1", ports=(HTTP, ServicePort(81, "none")), **LOCAL)
    slices = [
        endpoint_slice(HERE),
        endpoint_slice(endpoint("fd00:1::1"), name="web-2", kind="IPv6"),
    ]
    assert lacks_local(asked, slices, "here") == {(6, "internal")}
