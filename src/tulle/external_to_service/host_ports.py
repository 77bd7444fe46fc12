"""Which ports of the node lead to a Pod: read from what the runtime or the Pod's spec says (N-10). Pure.

The semantics are those of the CNI convention ``portMappings``, as its reference plugin ``portmap`` has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from tulle.model.address import from_bytes, parse_lenient
from tulle.model.host_ports import PROTOCOLS, HostPort
from tulle.model.objects import ContainerPort, Pod

_MOST: Final = 65535


class PortMapping(msgspec.Struct, frozen=True, rename="camel"):
    """One of ``runtimeConfig.portMappings``, unchecked."""

    host_port: int = 0
    container_port: int = 0
    protocol: str = "tcp"
    host_ip: str = msgspec.field(name="hostIP", default="")


class Fault(NamedTuple):
    """A field that cannot be right, and why."""

    field: str
    message: str


class Asked(NamedTuple):
    """``ports`` can be served as far as can be told from them alone; ``faults`` are of the others."""

    ports: tuple[HostPort, ...]
    faults: tuple[Fault, ...]


def read_mappings(mappings: Iterable[PortMapping]) -> Asked:
    """What the runtime asks for. ``hostPort`` 0 is how it says of a port that it has none."""
    named = [(f"runtimeConfig.portMappings[{i}]", mapping) for i, mapping in enumerate(mappings)]
    return _read((field, m) for field, m in named if m.host_port)


def read_pod(pod: Pod) -> Asked:
    """What a Pod's spec asks for. The ports of a host-network Pod are the node's own already."""
    if pod.spec.host_network:
        return Asked((), ())
    containers = [(f"spec.containers[{i}]", c) for i, c in enumerate(pod.spec.containers)]
    sidecars = [
        (f"spec.initContainers[{i}]", c)
        for i, c in enumerate(pod.spec.init_containers or ())
        if c.restart_policy == "Always"
    ]
    return _read(
        (f"{path}.ports[{i}]", _as_mapping(port))
        for path, container in (*containers, *sidecars)
        for i, port in enumerate(container.ports or ())
        if port.host_port
    )


def _as_mapping(port: ContainerPort) -> PortMapping:
    return PortMapping(port.host_port, port.container_port, port.protocol, port.host_ip)


def _read(mappings: Iterable[tuple[str, PortMapping]]) -> Asked:
    ports: dict[tuple[str, int, str], HostPort] = {}
    faults: list[Fault] = []
    for field, mapping in mappings:
        fault = _find_fault(field, mapping)
        if fault is None:
            port = _normal(field, mapping)
            before = ports.setdefault((port.host_ip, port.host_port, port.protocol), port)
            if before.container_port != port.container_port:
                fault = Fault(
                    f"{field}.hostPort", f"{port} is asked for by {before.field}, too; once is right"
                )
        faults += [fault] if fault else []
    return Asked(tuple(ports.values()), tuple(faults))


def _find_fault(field: str, mapping: PortMapping) -> Fault | None:
    for name, number in (("hostPort", mapping.host_port), ("containerPort", mapping.container_port)):
        if not 0 < number <= _MOST:
            return Fault(f"{field}.{name}", f"{number} is not 1 to {_MOST}")
    if _protocol(mapping) not in PROTOCOLS:
        return Fault(f"{field}.protocol", f"{mapping.protocol!r} is not tcp, udp or sctp")
    if mapping.host_ip and parse_lenient(mapping.host_ip) is None:
        return Fault(f"{field}.hostIP", f"{mapping.host_ip!r} is no IP address")
    return None


def _normal(field: str, mapping: PortMapping) -> HostPort:
    raw = parse_lenient(mapping.host_ip) if mapping.host_ip else None
    host_ip = str(from_bytes(raw)) if raw else ""
    return HostPort(mapping.host_port, mapping.container_port, _protocol(mapping), host_ip, field)


def _protocol(mapping: PortMapping) -> str:
    return mapping.protocol.upper() or "TCP"
