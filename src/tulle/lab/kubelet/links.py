"""The environment variables by which a container finds Services without DNS, as kubelet sets them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from tulle.kube.resources import Key, Resource
from tulle.lab.kubelet.objects import Pod


class ServicePort(msgspec.Struct, frozen=True, rename="camel"):
    port: int
    name: str = ""
    protocol: str = "TCP"


class ServiceSpec(msgspec.Struct, frozen=True, rename="camel"):
    """``cluster_ip`` is empty for an ExternalName, and ``None`` (the word) for a headless Service."""

    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    ports: tuple[ServicePort, ...] = ()


class ServiceMetadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str


class Service(msgspec.Struct, frozen=True, rename="camel"):
    """What environments say of it: all Services of the cluster are kept, so no field more."""

    metadata: ServiceMetadata
    spec: ServiceSpec = ServiceSpec()


SERVICES: Resource[Service] = Resource("", "v1", "services", "Service", Service)

_ALWAYS: Final[Key] = ("default", "kubernetes")
"""The API itself: found also where ``enableServiceLinks`` is false."""


def links(pod: Pod, services: Mapping[Key, Service]) -> dict[str, str]:
    """Of the Services of the Pod's namespace, and of the API's; one without an address has none.

    A Service ``kubernetes`` of the Pod's own namespace takes the API's place there.
    """
    chosen = {_ALWAYS[1]: services[_ALWAYS]} if _ALWAYS in services else {}
    if pod.spec.enable_service_links:
        own = pod.metadata.namespace
        chosen |= {
            name: service
            for (namespace, name), service in services.items()
            if namespace == own and _has_address(service)
        }
    found = (s for s in chosen.values() if _has_address(s))
    return dict(pair for service in found for pair in _variables(service))


def _has_address(service: Service) -> bool:
    return service.spec.cluster_ip not in ("", "None") and bool(service.spec.ports)


def _variables(service: Service) -> Iterator[tuple[str, str]]:
    """Kubernetes' own, then those of the links that Docker once had."""
    address, ports = service.spec.cluster_ip, service.spec.ports
    prefix = _name(service.metadata.name)
    yield f"{prefix}_SERVICE_HOST", address
    yield f"{prefix}_SERVICE_PORT", str(ports[0].port)
    yield from ((f"{prefix}_SERVICE_PORT_{_name(p.name)}", str(p.port)) for p in ports if p.name)
    host = f"[{address}]" if ":" in address else address
    for number, port in enumerate(ports):
        protocol = port.protocol.lower()
        url = f"{protocol}://{host}:{port.port}"
        if number == 0:
            yield f"{prefix}_PORT", url
        of_port = f"{prefix}_PORT_{port.port}_{port.protocol.upper()}"
        yield of_port, url
        yield from _parts(of_port, protocol, port.port, address)


def _parts(prefix: str, protocol: str, port: int, address: str) -> Iterable[tuple[str, str]]:
    return (f"{prefix}_PROTO", protocol), (f"{prefix}_PORT", str(port)), (f"{prefix}_ADDR", address)


def _name(text: str) -> str:
    return text.upper().replace("-", "_")
