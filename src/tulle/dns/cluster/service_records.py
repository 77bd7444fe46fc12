"""Which records a Service has (Kubernetes DNS specification 1.1). Pure: objects in, records out.

Ready endpoints of a slice already include those that are not, where ``publishNotReadyAddresses`` asks for
it (D-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from struct import Struct

from tulle.dns import wire
from tulle.dns.cluster.objects import Service
from tulle.dns.names import to_wire
from tulle.model.address import Address
from tulle.model.services import Endpoint, EndpointSlice

NEGATIVE_TTL = 5
"""Seconds at most that "no such name" may be kept: a Service that is made now should be found soon."""

SRV = Struct("!HHH")
_LABEL = re.compile(r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?", re.ASCII)
_TYPES = {4: wire.A, 6: wire.AAAA}


@dataclass(frozen=True)
class Options:
    """``ttl`` in seconds. With ``pod_names`` an endpoint without hostname is called as its Pod is (D-06);
    with ``pods`` there are names for Pods' addresses (D-20).
    """

    zone: bytes = to_wire("cluster.local")
    ttl: int = 30
    pod_names: bool = False
    pods: bool = True

    @property
    def services(self) -> bytes:
        """``svc.<zone>``."""
        return b"\x03svc" + self.zone


Records = tuple[bytes, ...]
"""All records of one name and type; their owner is a pointer to the question's name."""

RecordSet = dict[tuple[int, bytes], Records]
"""By type and name."""


def of_service(service: Service, slices: Iterable[EndpointSlice], options: Options) -> RecordSet:
    """Everything that DNS knows of one Service; empty for one that has no address yet."""
    meta, spec = service.metadata, service.spec
    name = _label(meta.name) + _label(meta.namespace) + options.services
    if spec.type == "ExternalName":
        return _external_name(name, spec.external_name, options.ttl)
    if spec.cluster_ip == "None":
        return _headless(name, slices, options)
    return _cluster_ip(name, service, options.ttl)


def _external_name(name: bytes, target: str, ttl: int) -> RecordSet:
    """D-09. A name that is none is left out; the API's validation refuses most of them."""
    try:
        data = to_wire(target)
    except ValueError:
        return {}
    return {(wire.CNAME, name): (_own(wire.CNAME, ttl, data),)}


def _cluster_ip(name: bytes, service: Service, ttl: int) -> RecordSet:
    """D-02, D-03, D-04."""
    spec = service.spec
    found = [address for text in spec.cluster_ips or (spec.cluster_ip,) if (address := _address(text))]
    records = addresses(name, found, ttl)
    for port in spec.ports or ():
        if found and port.name:
            owner = _port_name(port.name, port.protocol) + name
            records[wire.SRV, owner] = (_own(wire.SRV, ttl, SRV.pack(0, 100, port.port) + name),)
    for address in found:
        records[wire.PTR, reverse(address)] = (_own(wire.PTR, ttl, name),)
    return records


@dataclass(frozen=True, slots=True)
class _Member:
    """One ready address of a headless Service; ``ports`` are (name, protocol, number)."""

    name: bytes
    address: Address
    ports: tuple[tuple[str, str, int], ...]


def _headless(name: bytes, slices: Iterable[EndpointSlice], options: Options) -> RecordSet:
    """D-05 to D-08: an address that several slices name counts once."""
    members = list(_members(name, slices, options.pod_names))
    ttl = options.ttl
    records = addresses(name, (member.address for member in members), ttl)
    by_name: dict[bytes, list[Address]] = {}
    pointers: dict[bytes, dict[bytes, None]] = {}
    for member in members:
        by_name.setdefault(member.name, []).append(member.address)
        pointers.setdefault(reverse(member.address), {})[_own(wire.PTR, ttl, member.name)] = None
    for own, found in by_name.items():
        records |= addresses(own, found, ttl)
    records |= {(wire.PTR, owner): tuple(each) for owner, each in pointers.items()}
    return records | _headless_ports(name, members, ttl)


def _headless_ports(name: bytes, members: Iterable[_Member], ttl: int) -> RecordSet:
    """N ready endpoints times M named ports (D-07)."""
    targets: dict[bytes, dict[tuple[int, bytes], None]] = {}
    for member in members:
        for label, protocol, number in member.ports:
            owner = _port_name(label, protocol) + name
            targets.setdefault(owner, {})[number, member.name] = None
    records: RecordSet = {}
    for owner, found in targets.items():
        weight = max(1, 100 // len(found))
        each = (_own(wire.SRV, ttl, SRV.pack(0, weight, number) + target) for number, target in found)
        records[wire.SRV, owner] = tuple(each)
    return records


def _members(name: bytes, slices: Iterable[EndpointSlice], pod_names: bool) -> Iterator[_Member]:
    for part in slices:
        ports = tuple(
            (port.name, port.protocol or "TCP", port.port)
            for port in part.ports or ()
            if port.name and port.port
        )
        for endpoint in part.endpoints or ():
            address = _ready_address(endpoint, part.address_type)
            if address:
                label = _hostname(endpoint, address, pod_names)
                yield _Member(_label(label) + name, address, ports)


def _ready_address(endpoint: Endpoint, family: str) -> Address | None:
    """Only the first address counts (S-06); one of another family than the slice's is left out."""
    if endpoint.conditions.ready is False or not endpoint.addresses:
        return None
    address = _address(endpoint.addresses[0])
    return address if address and family == f"IPv{address.version}" else None


def _hostname(endpoint: Endpoint, address: Address, pod_names: bool) -> str:
    """The endpoint's own, else its Pod's if that is wanted, else its address with dashes."""
    own = (endpoint.hostname or "").lower()
    if _LABEL.fullmatch(own):
        return own
    pod = endpoint.target_ref
    if pod_names and pod and pod.kind == "Pod" and _LABEL.fullmatch(pod.name):
        return pod.name
    return dashed(address)


def dashed(address: Address) -> str:
    """``10-244-1-5``, ``fd00--5``."""
    return str(address).replace(".", "-").replace(":", "-")


def addresses(name: bytes, found: Iterable[Address], ttl: int) -> RecordSet:
    """A and AAAA records of ``name``, each address once."""
    each: dict[int, dict[bytes, None]] = {}
    for address in found:
        rtype = _TYPES[address.version]
        each.setdefault(rtype, {})[_own(rtype, ttl, address.packed)] = None
    return {(rtype, name): tuple(records) for rtype, records in each.items()}


def reverse(address: Address) -> bytes:
    """The name that a PTR query for ``address`` asks."""
    return to_wire(address.reverse_pointer)


def _own(rtype: int, ttl: int, data: bytes) -> bytes:
    return wire.record(wire.QUESTION_NAME, rtype, ttl, data)


def _port_name(port: str, protocol: str) -> bytes:
    return _label(f"_{port}") + _label(f"_{protocol}")


def _label(text: str) -> bytes:
    """Names of Kubernetes objects are at most 63 characters by the API's validation."""
    return bytes((min(len(text), 63),)) + text[:63].lower().encode("ascii", "replace")


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
