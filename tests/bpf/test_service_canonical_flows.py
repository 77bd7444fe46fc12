"""From the objects of the API to packets: planned, written by the table, and done by the programs.

The ClusterIP column of the canonical flows (BEHAVIOURS 1(b).7), for Pods as sources, and each row of S-30 to
S-41 that a packet can show. L is an endpoint on this node, R one on another.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import pytest
from cluster import Family
from packets import SYN, TCP, tcp
from service_scene import CLIENT_PORT, KEY, PORT, Ends, Scene, reasons

from tulle.model.address import Address
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
from tulle.pod_to_service.planner import plan_service

HERE = Location("here", "zone-a")
READY, LEAVING, UNREADY = (
    EndpointConditions(True, True, False),
    EndpointConditions(False, True, True),
    EndpointConditions(False, False, False),
)
NODE_PORT = {"type": "NodePort"}
BALANCED = {"type": "LoadBalancer"}
EXTERNAL_LOCAL = {"external_traffic_policy": "Local"}
INTERNAL_LOCAL = {"internal_traffic_policy": "Local"}
BOTH = {"L": READY, "R": READY}


@dataclass(frozen=True)
class Row:
    """``endpoints`` by place; ``led`` is whom new connections reach, or the reason of a drop."""

    name: str
    spec: dict[str, Any]
    endpoints: dict[str, EndpointConditions]
    led: str
    zones: dict[str, str] | None = None

    def __str__(self) -> str:
        return self.name


CANONICAL = [
    Row(f"{kind}, {name}", {**spec, **policy}, BOTH, led)
    for kind, spec in (("ClusterIP", {}), ("NodePort", NODE_PORT), ("LoadBalancer", BALANCED))
    for name, policy, led in (
        ("default policies", {}, "L R"),
        ("eTP Local", EXTERNAL_LOCAL, "L R"),
        ("iTP Local", INTERNAL_LOCAL, "L"),
        ("both Local", EXTERNAL_LOCAL | INTERNAL_LOCAL, "L"),
    )
]
CATEGORIES = [
    Row("one of two is ready", {}, {"L": UNREADY, "R": READY}, "R"),
    Row("one of two leaves", {}, {"L": LEAVING, "R": READY}, "R"),
    Row("both leave", {}, {"L": LEAVING, "R": LEAVING}, "L R"),
    Row("none is ready", {}, {"L": UNREADY, "R": UNREADY}, "DROP_SERVICE_EMPTY"),
    Row("no endpoints", {}, {}, "DROP_SERVICE_EMPTY"),
    Row("iTP Local, all elsewhere", INTERNAL_LOCAL, {"R": READY}, "DROP_SERVICE_LOCAL"),
    Row("iTP Local, the one here leaves", INTERNAL_LOCAL, {"L": LEAVING, "R": READY}, "L"),
    Row("iTP Local, no endpoints", INTERNAL_LOCAL, {}, "DROP_SERVICE_EMPTY"),
    Row("the zone of this node", {}, BOTH, "L", {"L": "zone-a", "R": "zone-b"}),
    Row("another zone", {}, BOTH, "R", {"L": "zone-b", "R": "zone-a"}),
    Row("iTP Local ignores zones", INTERNAL_LOCAL, BOTH, "L", {"L": "zone-b", "R": "zone-a"}),
    Row("one has no hint", {}, BOTH, "L R", {"L": "zone-a"}),
]


def places(family: Family) -> dict[str, tuple[Address, str]]:
    return {"L": (family.b, "here"), "R": (family.native, "there")}


def service(scene: Scene, row: Row) -> Service:
    vip = str(scene.vip)
    spec = {"cluster_ip": vip, "cluster_ips": (vip,), "ports": (ServicePort(PORT, "http"),), **row.spec}
    return Service(ServiceMeta(KEY[1], KEY[0]), ServiceSpec(**spec))


def endpoint_slice(scene: Scene, row: Row) -> EndpointSlice:
    endpoints = []
    for name, conditions in row.endpoints.items():
        address, node = places(scene.family)[name]
        zone = (row.zones or {}).get(name)
        hints = EndpointHints((Hint(zone),)) if zone else None
        endpoints.append(Endpoint((str(address),), conditions, node_name=node, hints=hints))
    kind = "IPv4" if scene.family.a.version == 4 else "IPv6"
    meta = SliceMeta("web-1", KEY[0], SliceLabels(KEY[1]))
    return EndpointSlice(meta, kind, tuple(endpoints), (EndpointPort("http", 8080),))


@pytest.mark.parametrize("row", CANONICAL + CATEGORIES, ids=str)
def test_whom_a_pod_reaches(scene: Scene, row: Row) -> None:
    """With its own address as source, never masqueraded (S-50). That one of two is missed in 60 is 2**-59."""
    planned = plan_service(service(scene, row), [endpoint_slice(scene, row)], HERE)
    assert planned.problems == ()
    scene.apply(*planned.ports)
    led = set()
    for port in range(CLIENT_PORT, CLIENT_PORT + 60):
        outcome = scene.send(Ends(scene.family.a, port, scene.vip, PORT).packet(TCP, tcp(0, 0, SYN)[4:]))
        [(_, reason)] = reasons(outcome)
        led.add(reason if reason.startswith("DROP_") else reached(scene, port, outcome.packet[14:]))
    assert led == set(row.led.split())


def reached(scene: Scene, port: int, packet: bytes) -> str:
    at, length = (12, 4) if scene.family.a.version == 4 else (8, 16)
    source, destination = (ip_address(packet[i : i + length]) for i in (at, at + length))
    header = at + 2 * length
    assert (source, int.from_bytes(packet[header : header + 2], "big")) == (scene.family.a, port)
    assert int.from_bytes(packet[header + 2 : header + 4], "big") == 8080
    return next(name for name, (address, _) in places(scene.family).items() if address == destination)
