"""From EndpointSlices to the endpoints of each port of a Service. Pure, and fast: a node reads them all.

Slices may overlap while a controller moves endpoints between them, so what comes out does not depend on
the order of slices, nor of endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tulle.model.services import FAMILIES, READY, Endpoint, EndpointSlice, Hint
from tulle.pod_to_service.addresses import read_address
from tulle.pod_to_service.categorize import Location, Standing
from tulle.pod_to_service.plan import PROTOCOLS, Backend, Problem

NO_NAMES: frozenset[str] = frozenset()
HERE, ELSEWHERE = Standing(True, True, False, True), Standing(True, True, False, False)


class PortKey(NamedTuple):
    """What joins a port of a Service with the ports of its slices (S-08)."""

    family: int
    name: str
    protocol: int


Found = dict[PortKey, dict[Backend, Standing]]


def find_endpoints(
    slices: Iterable[EndpointSlice], wanted: Iterable[PortKey], here: Location
) -> tuple[Found, list[Problem]]:
    """The endpoints of each of the ports ``wanted``. An endpoint that is told twice is there once (S-09)."""
    found: Found = {key: {} for key in wanted}
    families = {key.family for key in found}
    problems: list[Problem] = []
    for each in sorted(slices, key=lambda s: s.metadata.name):
        family = FAMILIES.get(each.address_type)
        if family is not None and family in families:
            ports = [(found[key], number) for key, number in _ports(each, family, problems) if key in found]
            known = _endpoints(each, family, here, problems) if ports else []
            clashes = [_add(port, known, number) for port, number in ports]
            if any(clashes):
                message = f"some are said to be on node {here.node}, and elsewhere too; one place is right"
                problems.append(_problem(each, "endpoints[].nodeName", message))
        elif family is None and each.address_type != "FQDN":
            problems.append(_problem(each, "addressType", f"{each.address_type!r} is not IPv4, IPv6 or FQDN"))
    return found, problems


def _add(port: dict[Backend, Standing], endpoints: Sequence[tuple[bytes, Standing]], number: int) -> bool:
    """Whether one is here already, with another place."""
    clash = False
    for address, standing in endpoints:
        backend = Backend(address, number)
        other = port.setdefault(backend, standing)
        if other is not standing:
            port[backend] = better(other, standing)
            clash = clash or other.local != standing.local
    return clash


def better(one: Standing, other: Standing) -> Standing:
    """Which of two that disagree to believe: the one that does not end (S-09); the rest only has to be
    the same whatever came first.
    """
    return max(one, other, key=_credit)


def _credit(s: Standing) -> tuple[bool, bool, bool, bool, list[str], list[str]]:
    return not s.terminating, s.local, s.ready, s.serving, sorted(s.zones), sorted(s.nodes)


def _ports(each: EndpointSlice, family: int, problems: list[Problem]) -> Iterator[tuple[PortKey, int]]:
    if each.endpoints and not each.ports:
        message = "there is none, so its endpoints have no port; those of the Service are right"
        problems.append(_problem(each, "ports", message))
    for index, port in enumerate(each.ports or ()):
        protocol = PROTOCOLS.get(port.protocol or "TCP")
        if port.name is None:
            message = "none is given; a port takes part by its name, which may be empty"
            problems.append(_problem(each, f"ports[{index}].name", message))
        elif protocol is None:
            message = f"{port.protocol!r} is not TCP, UDP or SCTP"
            problems.append(_problem(each, f"ports[{index}].protocol", message))
        elif port.port is None or not 0 < port.port < 65536:
            message = f"{port.port or 'none'} is not a number from 1 to 65535"
            problems.append(_problem(each, f"ports[{index}].port", message))
        else:
            yield PortKey(family, port.name, protocol), port.port


def _endpoints(
    each: EndpointSlice, family: int, here: Location, problems: list[Problem]
) -> list[tuple[bytes, Standing]]:
    """A slice can hold a thousand endpoints: of those that cannot be used, only the first is told."""
    usable: list[tuple[bytes, Standing]] = []
    first: Problem | None = None
    for index, endpoint in enumerate(each.endpoints or ()):
        if endpoint.addresses:
            address, wrong = read_address(endpoint.addresses[0], family)
        else:
            address, wrong = b"", "there is none; one is right"
        if not wrong:
            usable.append((address, _standing(endpoint, here.node)))
        elif first is None:
            first = _problem(each, f"endpoints[{index}].addresses", wrong)
    if first:
        problems.append(first)
    return usable


def _standing(endpoint: Endpoint, node: str) -> Standing:
    """S-10 to S-12. The usual case makes no new object."""
    local = bool(node) and endpoint.node_name == node
    conditions, hints = endpoint.conditions, endpoint.hints
    if conditions is READY and hints is None:
        return HERE if local else ELSEWHERE
    return Standing(
        ready=conditions.ready is not False,
        serving=conditions.serving is not False,
        terminating=conditions.terminating is True,
        local=local,
        zones=_names(hints.for_zones) if hints else NO_NAMES,
        nodes=_names(hints.for_nodes) if hints else NO_NAMES,
    )


def _names(hints: tuple[Hint, ...] | None) -> frozenset[str]:
    return frozenset([hint.name for hint in hints]) if hints else NO_NAMES


def _problem(each: EndpointSlice, field: str, message: str) -> Problem:
    return Problem("EndpointSlice", (each.metadata.namespace, each.metadata.name), field, message)
