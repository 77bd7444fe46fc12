"""The Services that verify has made, and what the API then says of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tulle.model.services import EndpointSlice, Service
from tulle.verify.manifests import LABELS, MAIN_PORT, PORT_NAME, ROLE, SUBDOMAIN
from tulle.verify.plan import family_of
from tulle.verify.statements import Family

ALL: Final = "all"
STICKY: Final = "sticky"
LOCAL: Final = "local"
EMPTY: Final = "empty"
HEADLESS: Final = SUBDOMAIN
EXTERNAL: Final = "external"
PORT: Final = 80
OTHER_PORT: Final = 8080
UNDEFINED_PORT: Final = 81
DATAGRAMS: Final = "datagrams"
"""The name of the UDP port; that of the TCP port is the one that the containers have too."""

SELECTED: Final = {ROLE: "pod"}
"""What selects all Pods but those on the host network."""
_NOBODY: Final = {ROLE: "nobody"}
_PORTS: Final = (
    {"name": PORT_NAME, "port": PORT, "protocol": "TCP", "targetPort": MAIN_PORT},
    {"name": DATAGRAMS, "port": PORT, "protocol": "UDP", "targetPort": MAIN_PORT},
)
_BY_NAME: Final = {"name": "by-name", "port": OTHER_PORT, "protocol": "TCP", "targetPort": PORT_NAME}


def manifests() -> list[dict[str, Any]]:
    """All but the one that leads to another name. Dual-stack where the cluster is."""
    affinity = {"clientIP": {"timeoutSeconds": 600}}
    return [
        service(ALL, selector=SELECTED, ports=[*_PORTS, _BY_NAME]),
        service(STICKY, selector=SELECTED, sessionAffinity="ClientIP", sessionAffinityConfig=affinity),
        service(LOCAL, selector=SELECTED, internalTrafficPolicy="Local"),
        service(EMPTY, selector=_NOBODY),
        service(HEADLESS, selector=SELECTED, clusterIP="None"),
    ]


def external(name: str) -> dict[str, Any]:
    """The Service that is another name for ``name``."""
    return _object(EXTERNAL, {"type": "ExternalName", "externalName": name})


def service(name: str, **spec: Any) -> dict[str, Any]:
    """One with verify's two ports. Dual-stack where the cluster is."""
    return _object(name, {"ipFamilyPolicy": "PreferDualStack", "ports": list(_PORTS), **spec})


def _object(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": LABELS},
        "spec": spec,
    }


SELECTING: Final = (ALL, STICKY, LOCAL, HEADLESS)


@dataclass(frozen=True)
class Listed:
    """A ready endpoint, the names of its ports, and the (first) EndpointSlice that lists it."""

    family: Family
    address: str
    node: str
    hostname: str
    slice: str
    ports: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Facts:
    """By Service: its ClusterIPs, and its ready endpoints in all its slices, each address once."""

    addresses: Mapping[str, Mapping[Family, str]]
    endpoints: Mapping[str, tuple[Listed, ...]]

    def listed(self, service: str, family: Family, port: str = "") -> tuple[Listed, ...]:
        """Those that have a port of that name; without one, all."""
        found = (each for each in self.endpoints.get(service, ()) if each.family == family)
        return tuple(each for each in found if not port or port in each.ports)


def facts(services: Iterable[Service], slices: Iterable[EndpointSlice]) -> Facts:
    """What is not ready is left out (S-10: without a word it is ready), and what is an FQDN (S-05)."""
    addresses = {
        service.metadata.name: {family_of(ip): ip for ip in service.spec.cluster_ips or () if ip != "None"}
        for service in services
    }
    endpoints: dict[str, dict[str, Listed]] = {}
    for each in slices:
        name = each.metadata.labels.service_name if each.metadata.labels else None
        if name is not None and each.address_type != "FQDN":
            _merge(endpoints.setdefault(name, {}), each)
    return Facts(addresses, {name: tuple(found.values()) for name, found in endpoints.items()})


def _merge(known: dict[str, Listed], found: EndpointSlice) -> None:
    """An address may be in several slices, with a port in each (S-09)."""
    for one in _ready(found):
        before = known.setdefault(one.address, one)
        known[one.address] = replace(before, ports=before.ports | one.ports)


def _ready(found: EndpointSlice) -> Iterable[Listed]:
    for endpoint in found.endpoints or ():
        if endpoint.addresses and endpoint.conditions.ready is not False:
            address = endpoint.addresses[0]
            hostname, node = endpoint.hostname or "", endpoint.node_name or ""
            ports = frozenset(port.name for port in found.ports or () if port.name is not None)
            yield Listed(family_of(address), address, node, hostname, found.metadata.name, ports)
