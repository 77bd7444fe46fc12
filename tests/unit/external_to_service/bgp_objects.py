"""A node, a router and a Service for the tests of this folder."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec

from tulle.external_to_service.bgp.peers import Here, Peer, Problem, judge
from tulle.kube.cache import Change
from tulle.model.address import to_bytes
from tulle.model.announcing import AnnouncedPool
from tulle.model.bgp import BGPPeer
from tulle.model.services import EndpointSlice, Service

V4, V6 = ip_address("172.30.1.11"), ip_address("fd00:172:30:1::b")
HERE = Here("node-1", {"zone": "a"}, {4: V4, 6: V6}, frozenset({to_bytes(V4), to_bytes(V6)}))
USUAL = {"peerAddress": "172.30.1.1", "peerASN": 64513, "localASN": 64512}


def peer_object(name: str = "router", status: dict[str, Any] | None = None, **spec: Any) -> BGPPeer:
    body = {
        "metadata": {"name": name, "resourceVersion": "7"},
        "spec": USUAL | spec,
        "status": status or {},
    }
    return msgspec.convert(body, BGPPeer)


def judged(**spec: Any) -> tuple[Peer | None, tuple[Problem, ...]]:
    return judge("router", peer_object(**spec).spec, HERE)


def peer(**spec: Any) -> Peer:
    found, problems = judged(**spec)
    assert found, problems
    return found


def pool(*addresses: str, announce: list[str] | None = None) -> AnnouncedPool:
    body = {"metadata": {"name": "pool"}, "spec": {"addresses": addresses, "announce": announce}}
    return msgspec.convert(body, AnnouncedPool)


EVERY_ADDRESS = pool("198.51.100.0/24", "2001:db8::/64")


def service(*ips: str, name: str = "web", mode: str | None = "VIP", **spec: Any) -> Change[Service]:
    body = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", **spec},
        "status": {"loadBalancer": {"ingress": [{"ip": ip, "ipMode": mode} for ip in ips]}},
    }
    return Change("added", ("default", name), None, msgspec.convert(body, Service))


def endpoint(node: str | None, ready: bool = True, serving: bool | None = None) -> dict[str, Any]:
    """One that is not ready is leaving, or, with ``serving=False``, useless."""
    conditions = {"ready": ready, "serving": ready if serving is None else serving, "terminating": not ready}
    return {"addresses": ["10.244.1.5"], "nodeName": node, "conditions": conditions}


def leaving(node: str | None) -> dict[str, Any]:
    return endpoint(node, ready=False, serving=True)


def slice_of(
    *endpoints: dict[str, Any], name: str = "web-1", owner: str = "web", family: str = "IPv4"
) -> EndpointSlice:
    labels = {"kubernetes.io/service-name": owner}
    body = {
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "addressType": family,
        "endpoints": list(endpoints),
    }
    return msgspec.convert(body, EndpointSlice)
