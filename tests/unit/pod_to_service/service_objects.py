"""Services and slices for tests, as short as they can be said."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from tulle.model.address import from_bytes, to_bytes
from tulle.model.services import (
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    Hint,
    Service,
    ServiceMeta,
    ServicePort,
    ServiceSpec,
    SliceLabels,
    SliceMeta,
)
from tulle.pod_to_service.categorize import Location
from tulle.pod_to_service.plan import Backend, PortPlan, ServicePlan
from tulle.pod_to_service.planner import plan_service

HERE = Location("here", "zone-a")
HTTP = ServicePort(80, "http")
STATES = {
    "ready": (True, True, False),
    "unready": (False, False, False),
    "odd": (False, True, False),
    "leaving": (False, True, True),
    "dying": (False, False, True),
}
"""Conditions: ready, serving, terminating. ``odd`` is what no controller says."""


def service(
    *cluster_ips: str, ports: tuple[ServicePort, ...] = (HTTP,), name: str = "web", **spec: Any
) -> Service:
    """A Service ``default/web`` at 10.96.0.1, port 80."""
    addresses = cluster_ips or ("10.96.0.1",)
    asked = {"cluster_ip": addresses[0], "cluster_ips": addresses, "ports": ports, **spec}
    return Service(ServiceMeta(name, "default"), ServiceSpec(**asked))


def endpoint(*addresses: str, node: str | None = "other", state: str = "ready", **fields: Any) -> Endpoint:
    """On another node and ready, unless said otherwise."""
    return Endpoint(addresses, EndpointConditions(*STATES[state]), node_name=node, **fields)


def hints(zones: tuple[str, ...] = (), nodes: tuple[str, ...] = ()) -> EndpointHints:
    return EndpointHints(tuple(map(Hint, zones)), tuple(map(Hint, nodes)))


def endpoint_slice(
    *endpoints: Endpoint,
    name: str = "web-1",
    owner: str | None = "web",
    kind: str = "IPv4",
    ports: tuple[EndpointPort, ...] | None = (EndpointPort("http", 8080),),
) -> EndpointSlice:
    """A slice of ``default/web`` with port 8080."""
    labels = SliceLabels(owner) if owner else None
    return EndpointSlice(SliceMeta(name, "default", labels), kind, endpoints, ports)


def plan(service: Service, *slices: EndpointSlice, here: Location = HERE) -> ServicePlan:
    return plan_service(service, slices, here)


def only(service: Service, *slices: EndpointSlice, here: Location = HERE) -> PortPlan:
    """The plan of a Service with one port in one family, about which there is nothing to complain."""
    planned = plan_service(service, slices, here)
    assert planned.problems == ()
    (port,) = planned.ports
    return port


def said(backends: tuple[Backend, ...]) -> list[str]:
    """``address:port`` of each."""
    return [f"{from_bytes(b.address)}:{b.port}" for b in backends]


def raw(text: str) -> bytes:
    return to_bytes(ip_address(text))
