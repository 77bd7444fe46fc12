"""What `tulle status` shows of Services, for people and for machines."""

from __future__ import annotations

import msgspec

from tulle.agent.services.maps import Size
from tulle.errors import TulleError
from tulle.model.address import from_bytes, parse_lenient
from tulle.pod_to_service.plan import Backend
from tulle.pod_to_service.words import say_backend


class EndpointStatus(msgspec.Struct, frozen=True, rename="camel"):
    """``in_kernel``: it gets new connections of which traffic policies. ``used``: of which it should, by the
    API; the words of the API are None where the API did not answer, or does not know the endpoint.

    ``why``: for an endpoint that is not used, what keeps it out; for another, what is unusual about it.
    """

    endpoint: str
    in_kernel: tuple[str, ...]
    used: tuple[str, ...] | None = None
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None
    local: bool | None = None
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    why: str = ""


class LeadStatus(msgspec.Struct, frozen=True):
    """One frontend, what it is (ClusterIP, NodePort, …), and the traffic policies whose endpoints clients on
    this node, and others, are led to. ``sources``: who is let in; None for all.

    What it is, and ``sources``, only the API says: they are empty where it did not answer.
    """

    frontend: str
    kind: str
    inside: str
    outside: str
    sources: tuple[str, ...] | None = None


class SetStatus(msgspec.Struct, frozen=True, rename="camel"):
    """The endpoints for one traffic policy (cluster or local), as the kernel has them.

    ``index`` in the kernel's table; ``when_empty`` is refuse or drop. ``when_empty`` and ``affinity``
    (seconds, 0 for none) are None where the index leads to nothing.
    """

    traffic: str
    index: int
    affinity: int | None
    when_empty: str | None
    hits: int


class PortStatus(msgspec.Struct, frozen=True, rename="camel"):
    """One port of a Service in one family. The kernel knows no names: ``service`` is empty where only the
    kernel has it. ``leads`` and ``sets`` are what leads to it, and the endpoints that it leads to; without
    ``sets``, the kernel has nothing. ``of_node``: this node itself has the address.
    """

    service: str
    port: str
    protocol: str
    frontends: tuple[str, ...]
    leads: tuple[LeadStatus, ...]
    of_node: bool
    sets: tuple[SetStatus, ...]
    endpoints: tuple[EndpointStatus, ...]
    differences: tuple[str, ...]


class ProblemStatus(msgspec.Struct, frozen=True):
    """What an object of the API says that cannot be right; ``service`` is the one that it belongs to."""

    service: str
    message: str


class ServicesStatus(msgspec.Struct, frozen=True, rename="camel"):
    """``api_error``: why there is nothing of the API's side here; empty where it answered.

    ``balanced``: whether the settings have this node balance Services. ``own_addresses``: ClusterIPs that are
    left to it; ``node_port_addresses``: where node ports are reached. ``differences``: those that belong to
    no port. ``without_ports``: the Services of the API that need
    nothing in the kernel.
    """

    api_error: str
    balanced: bool
    cidrs: tuple[str, ...]
    own_addresses: tuple[str, ...]
    node_port_addresses: tuple[str, ...]
    clients: dict[str, int]
    sizes: dict[str, Size]
    differences: tuple[str, ...]
    problems: tuple[ProblemStatus, ...]
    without_ports: tuple[str, ...]
    ports: tuple[PortStatus, ...]

    @property
    def well(self) -> bool:
        """Whether no difference is known; nothing is, where the API did not answer."""
        return not self.differences and not any(port.differences for port in self.ports)


def one_service(found: ServicesStatus, name: str) -> ServicesStatus:
    """Only what concerns the Service NAMESPACE/NAME, or the one that has this address.

    Raises ``TulleError`` when there is none, or nothing to say about it.
    """
    if "/" in name:
        ports = tuple(port for port in found.ports if port.service == name)
    else:
        ports = tuple(port for port in found.ports if any(_is_at(f, name) for f in port.frontends))
    if not ports:
        raise TulleError(f"--service {name}: {_reason(found, name)}")
    names = {port.service for port in ports}
    problems = tuple(each for each in found.problems if each.service in names)
    return msgspec.structs.replace(found, ports=ports, problems=problems, differences=())


def _reason(found: ServicesStatus, name: str) -> str:
    if name in found.without_ports:
        return "needs nothing in the kernel (headless, ExternalName, without ports, or left to another proxy)"
    if found.api_error and "/" in name:
        return f"the kernel knows no names, give an address; the API did not answer: {found.api_error}"
    if "/" not in name and parse_lenient(name) is None:
        return "is neither NAMESPACE/NAME nor an IP address"
    return "there is none"


def _is_at(frontend: str, name: str) -> bool:
    raw = parse_lenient(name)
    if raw is None:
        return False
    return frontend == str(from_bytes(raw)) or frontend.startswith(say_backend(Backend(raw, 0))[:-1])
