"""A cluster's objects in a few words, and questions to a zone made of them."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import msgspec

from tulle.dns import wire
from tulle.dns.cluster.catalog import Catalog
from tulle.dns.cluster.objects import Service
from tulle.dns.cluster.service_records import Options
from tulle.dns.cluster.zone import Alias, Zone
from tulle.dns.names import to_wire
from tulle.dns.outside.records import Record, expand
from tulle.model.objects import Namespace
from tulle.model.services import EndpointSlice

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33, "ANY": 255}
WORDS = {number: word for word, number in TYPES.items()}


def service(path: str, *ips: str, ports: tuple[str, ...] = (), external: str = "") -> Service:
    """``service("default/web", "10.96.0.5", ports=("http:TCP:80",))``; headless with ``"None"``."""
    namespace, name = path.split("/")
    spec: dict[str, Any] = {"clusterIP": ips[0] if ips else "", "clusterIPs": ips or None}
    if external:
        spec = {"type": "ExternalName", "externalName": external}
    spec["ports"] = [
        {"name": each.split(":")[0], "protocol": each.split(":")[1], "port": int(each.split(":")[2])}
        for each in ports
    ]
    return msgspec.convert({"metadata": {"name": name, "namespace": namespace}, "spec": spec}, Service)


def endpoints(
    path: str, *each: str | dict[str, Any], ports: tuple[str, ...] = (), family: str = "IPv4", part: str = "1"
) -> EndpointSlice:
    """A slice of the Service ``path``; an endpoint is a ready address, or a dict as the API has it."""
    namespace, name = path.split("/")
    given = [
        {"addresses": [one], "conditions": {"ready": True}} if isinstance(one, str) else one for one in each
    ]
    split = (port.split(":") for port in ports)
    value = {
        "metadata": {
            "name": f"{name}-{part}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name, "service.kubernetes.io/headless": ""},
        },
        "addressType": family,
        "endpoints": given,
        "ports": [{"name": label, "protocol": proto, "port": int(number)} for label, proto, number in split],
    }
    return msgspec.convert(value, EndpointSlice)


def namespace(name: str) -> Namespace:
    return msgspec.convert({"metadata": {"name": name}}, Namespace)


def catalog(*objects: Service | EndpointSlice | Namespace, options: Options | None = None) -> Catalog:
    made = Catalog(Zone(options or Options(), [ip_address("10.96.0.10")]))
    fill(made, namespace("default"), *objects)
    return made


def fill(made: Catalog, *objects: Service | EndpointSlice | Namespace) -> None:
    for each in objects:
        key = (each.metadata.namespace, each.metadata.name)
        if isinstance(each, Service):
            made.set_service(key, each)
        elif isinstance(each, EndpointSlice):
            made.set_slice((True, *key), each)
        else:
            made.set_namespace(key, each)


def packet(name: str, qtype: str | int, *, ident: int = 7, flags: int = wire.RD, size: int = 0) -> bytes:
    """A query as a stub resolver sends it; with EDNS if ``size`` is given."""
    number = TYPES[qtype] if isinstance(qtype, str) else qtype
    asked = b"".join(bytes((len(p),)) + p.encode() for p in name.rstrip(".").split(".") if p) + b"\0"
    head = struct.pack("!HHHHHH", ident, flags, 1, 0, 0, bool(size))
    options = b"\0" + struct.pack("!HHIH", wire.OPT, size, 0, 0) if size else b""
    return head + asked + struct.pack("!HH", number, wire.IN) + options


def ask(zone: Zone, name: str, qtype: str, size: int = 0) -> bytes | Alias | None:
    return zone.answer(wire.parse_query(packet(name, qtype, size=size), wire.UDP_LIMIT))


def shown(record: Record) -> str:
    """``A 10.96.0.5``, ``SRV 0 100 80 web.default.svc.cluster.local.``; the order of answers is any."""
    data = record.data
    if record.type in (wire.A, wire.AAAA):
        text = str(ip_address(data))
    elif record.type == wire.SRV:
        numbers = struct.unpack("!HHH", data[:6])
        text = f"{' '.join(map(str, numbers))} {wire.text(data[6:])}"
    elif record.type == wire.TXT:
        text = data[1:].decode()
    elif record.type == wire.SOA:
        text = wire.text(data[: data.index(b"\0") + 1])
    else:
        text = wire.text(data)
    return f"{WORDS[record.type]} {text}"


def answer(message: bytes) -> tuple[int, list[str], list[str], list[str]]:
    """(rcode, answers, authority, additional), each sorted."""
    found = expand(message)
    sections = [sorted(shown(r) for r in found if r.section == number) for number in range(3)]
    return message[3] & 0xF, sections[0], sections[1], sections[2]


__all__ = [
    "answer",
    "ask",
    "catalog",
    "endpoints",
    "fill",
    "namespace",
    "packet",
    "service",
    "shown",
    "to_wire",
]
