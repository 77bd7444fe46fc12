"""In words, why an endpoint is not used from this node (S-31 to S-33, S-41)."""

from __future__ import annotations

from typing import Any

import pytest
from service_objects import HERE, endpoint, endpoint_slice, hints, plan, service
from tests.plans import inside

from tulle.model.address import from_bytes
from tulle.model.services import Endpoint, EndpointPort, ServicePort
from tulle.pod_to_service.judged import judge

LEAVING = "terminating, and others are ready"
CASES: dict[str, tuple[dict[str, Any], list[Endpoint], dict[str, str]]] = {
    "S-31: the ready ones": (
        {},
        [
            endpoint("10.1.0.1"),
            endpoint("10.1.0.2", state="unready"),
            endpoint("10.1.0.3", state="leaving"),
            endpoint("10.1.0.4", state="dying"),
        ],
        {"10.1.0.2": "not ready", "10.1.0.3": LEAVING, "10.1.0.4": "terminating, and does not serve"},
    ),
    "S-31: those that are leaving, where none is ready": (
        {},
        [endpoint("10.1.0.1", state="leaving"), endpoint("10.1.0.2", state="dying")],
        {
            "10.1.0.1": "used: terminating, but it serves, and none is ready",
            "10.1.0.2": "terminating, and does not serve",
        },
    ),
    "S-32: hints for zones": (
        {},
        [endpoint("10.1.0.1", hints=hints(("zone-a",))), endpoint("10.1.0.2", hints=hints(("zone-b",)))],
        {"10.1.0.2": "meant for zone zone-b"},
    ),
    "S-32: hints for nodes": (
        {},
        [
            endpoint("10.1.0.1", hints=hints(("zone-a",), ("here",))),
            endpoint("10.1.0.2", hints=hints(("zone-a",), ("x", "other"))),
            endpoint("10.1.0.3", hints=hints(("zone-a",)), state="leaving"),
        ],
        {"10.1.0.2": "meant for node other, x", "10.1.0.3": LEAVING},
    ),
    "S-33: the policy Local is before hints": (
        {"internal_traffic_policy": "Local"},
        [
            endpoint("10.1.0.1", node="here", hints=hints(("zone-b",))),
            endpoint("10.1.0.2", hints=hints(("zone-a",))),
        ],
        {"10.1.0.2": "on another node, and the traffic policy is Local"},
    ),
}


@pytest.mark.parametrize(("spec", "endpoints", "words"), CASES.values(), ids=CASES.keys())
def test_why_an_endpoint_is_not_used(
    spec: dict[str, Any], endpoints: list[Endpoint], words: dict[str, str]
) -> None:
    asked, slices = service(**spec), [endpoint_slice(*endpoints)]
    [port] = plan(asked, *slices).ports
    [judged] = judge(slices, [port], HERE)
    assert tuple(each.backend for each in judged if each.used) == inside(port).backends
    said = {
        str(from_bytes(each.backend.address)): f"{'used: ' if each.used else ''}{each.why}"
        for each in judged
        if each.why
    }
    assert said == words


def test_each_port_has_its_own_endpoints() -> None:
    asked = service(ports=(ServicePort(80, "http"), ServicePort(443, "https")))
    ports = (EndpointPort("http", 8080), EndpointPort("https", 8443))
    slices = [endpoint_slice(endpoint("10.1.0.1"), endpoint("10.1.0.2", state="unready"), ports=ports)]
    judged = judge(slices, plan(asked, *slices).ports, HERE)
    assert [[each.backend.port for each in port] for port in judged] == [[8080] * 2, [8443] * 2]
    assert [[each.standing.ready for each in port] for port in judged] == [[True, False]] * 2
