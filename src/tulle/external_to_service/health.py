"""What a load balancer is told of a node: whether a Service has ready endpoints there (S-62). Pure.

That is for Services of the type LoadBalancer with ``externalTrafficPolicy: Local``, at the port
``healthCheckNodePort``. Each family is answered for by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tulle.kube.resources import Key
from tulle.model.address import Address, parse_lenient
from tulle.model.services import FAMILIES, Endpoint, EndpointSlice, Service
from tulle.telemetry.http import JSON, Reply
from tulle.telemetry.listeners import Place


class HealthCheck(NamedTuple):
    """``ready``: by each family that the Service has, at how many addresses it has ready endpoints here."""

    port: int
    ready: Mapping[int, int]


def health_check(service: Service, slices: Iterable[EndpointSlice], node: str) -> HealthCheck | None:
    """None where the Service asks for none. ``slices`` are those of this Service, ``node`` is our name."""
    spec = service.spec
    wanted = spec.type == "LoadBalancer" and spec.external_traffic_policy == "Local"
    if not wanted or not spec.health_check_node_port or not _is_ours(service):
        return None
    found: dict[int, set[bytes]] = {_family(text): set() for text in spec.cluster_ips or (spec.cluster_ip,)}
    for each in slices:
        ready = found.get(FAMILIES.get(each.address_type, 0))
        if ready is not None and _has_port(each):
            ready.update(_ready_here(each.endpoints or (), node))
    counts = {family: len(addresses) for family, addresses in found.items()}
    return HealthCheck(spec.health_check_node_port, counts)


def _is_ours(service: Service) -> bool:
    """S-01, S-03."""
    labels = service.metadata.labels
    left = labels and (labels.proxy_name is not None or labels.headless is not None)
    return not left and service.spec.cluster_ip not in ("", "None")


def _family(text: str) -> int:
    return 6 if ":" in text else 4


def _has_port(each: EndpointSlice) -> bool:
    """An endpoint without a port serves nobody (S-07)."""
    return any(port.name is not None and port.port for port in each.ports or ())


def _ready_here(endpoints: Iterable[Endpoint], node: str) -> Iterable[bytes]:
    """S-10; one that is about to end does not count, though it still gets connections."""
    for endpoint in endpoints:
        conditions = endpoint.conditions
        ready = conditions.ready is not False and conditions.terminating is not True
        if ready and endpoint.node_name == node and endpoint.addresses:
            address = parse_lenient(endpoint.addresses[0])
            if address is not None:
                yield address


def listeners(
    checks: Mapping[Key, HealthCheck], addresses: Iterable[Address]
) -> tuple[dict[Place, Key], dict[Key, str]]:
    """Where to listen, and for which Service; and those that there is no port for, with the reason.

    ``addresses``: those of this node that have node ports. No API gives a port to two Services; should it
    happen all the same, the first one by name keeps it.
    """
    places = list(addresses)
    wanted: dict[Place, Key] = {}
    failures: dict[Key, str] = {}
    owners: dict[int, Key] = {}
    for key, check in sorted(checks.items()):
        owner = owners.setdefault(check.port, key)
        if owner != key:
            failures[key] = f"port {check.port} is that of Service {'/'.join(owner)}"
        elif not 0 < check.port < 65536:
            failures[key] = f"{check.port} is not a port from 1 to 65535"
        else:
            wanted |= {Place(a, check.port): key for a in places if a.version in check.ready}
    return wanted, failures


def answer(service: Key, ready: int, proxy_healthy: bool) -> Reply:
    """``ready``: how many addresses have a ready endpoint here, in the family that was asked by."""
    namespace, name = service
    body = {
        "service": {"namespace": namespace, "name": name},
        "localEndpoints": ready,
        "serviceProxyHealthy": proxy_healthy,
    }
    headers = (("X-Content-Type-Options", "nosniff"), ("X-Load-Balancing-Endpoint-Weight", str(ready)))
    return Reply(200 if ready and proxy_healthy else 503, json.dumps(body), JSON, headers)
