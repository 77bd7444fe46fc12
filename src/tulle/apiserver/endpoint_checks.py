"""What is wrong with EndpointSlices and Endpoints beyond their schema, worded as Kubernetes words it."""

from __future__ import annotations

from tulle.apiserver import addresses, checks
from tulle.apiserver.kinds import Object
from tulle.apiserver.status import Cause, bad_value, duplicate, required, too_many

MOST_ENDPOINTS, MOST_ADDRESSES, MOST_PORTS, MOST_HINTS = 1000, 100, 20000, 8


def endpoint_slice(new: Object, old: Object | None) -> list[Cause]:
    causes = checks.unchanged(new, old, "addressType")
    endpoints = new.get("endpoints") or []
    if len(endpoints) > MOST_ENDPOINTS:
        causes.append(too_many("endpoints", len(endpoints), MOST_ENDPOINTS))
    else:
        # Thousands of endpoints that were right before need not be looked at again.
        known = [] if old is None or causes else old.get("endpoints") or []
        for index, endpoint in enumerate(endpoints):
            if endpoint not in known[index : index + 1]:
                causes += _endpoint(endpoint, new["addressType"], f"endpoints[{index}]")
    return causes + _slice_ports(new.get("ports") or [])


def _endpoint(endpoint: Object, kind: str, path: str) -> list[Cause]:
    given = endpoint["addresses"]
    causes: list[Cause] = []
    if not given:
        causes.append(required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(given) > MOST_ADDRESSES:
        causes.append(too_many(f"{path}.addresses", len(given), MOST_ADDRESSES))
    for index, address in enumerate(given):
        causes += _address(address, kind, f"{path}.addresses[{index}]")
    if "hostname" in endpoint:
        causes += _by_rule("label", endpoint["hostname"], f"{path}.hostname")
    if endpoint.get("nodeName"):
        causes += _by_rule("subdomain", endpoint["nodeName"], f"{path}.nodeName")
    hints = endpoint.get("hints") or {}
    for key in ("forZones", "forNodes"):
        causes += _hints([each["name"] for each in hints.get(key) or []], key, f"{path}.hints.{key}")
    return causes


def _address(address: str, kind: str, path: str) -> list[Cause]:
    if kind == "FQDN":
        name = address.removesuffix(".")
        if not checks.SUBDOMAIN.fullmatch(name) or "." not in name:
            detail = (
                "should be a domain with at least two segments separated by dots, such as www.example.com"
            )
            return [bad_value(path, address, detail)]
        return []
    if addresses.family(address) != kind or (kind == "IPv4" and ":" in address):
        return [bad_value(path, address, f"must be a valid {kind} address")]
    return addresses.flaws(path, address) or addresses.special(path, address)


def _by_rule(rule: str, value: str, path: str) -> list[Cause]:
    pattern, words = checks.RULES[rule]
    return [] if pattern.fullmatch(value) else [bad_value(path, value, words)]


def _hints(names: list[str], key: str, path: str) -> list[Cause]:
    """At most eight zones or nodes, each once (S-12)."""
    if len(names) > MOST_HINTS:
        return [too_many(path, len(names), MOST_HINTS)]
    causes: list[Cause] = []
    for index, name in enumerate(names):
        where = f"{path}[{index}].name"
        if name in names[:index]:
            causes.append(duplicate(where, name))
        if key == "forNodes":
            causes += _by_rule("subdomain", name, where)
        elif not name or not checks.LABEL_VALUE.fullmatch(name):
            causes.append(bad_value(where, name, checks.VALUE_RULE) if name else required(where))
    return causes


def _slice_ports(ports: list[Object]) -> list[Cause]:
    if len(ports) > MOST_PORTS:
        return [too_many("ports", len(ports), MOST_PORTS)]
    causes: list[Cause] = []
    names = [port["name"] for port in ports]
    for index, (name, port) in enumerate(zip(names, ports, strict=True)):
        path = f"ports[{index}]"
        causes += _by_rule("label", name, f"{path}.name") if name else []
        if name in names[:index]:
            causes.append(duplicate(f"{path}.name", name))
        if "appProtocol" in port:
            causes += checks.qualified(port["appProtocol"], f"{path}.appProtocol")
    return causes


def endpoints(new: Object, old: Object | None) -> list[Cause]:
    causes: list[Cause] = []
    for index, subset in enumerate(new.get("subsets") or []):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            causes.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for key in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(key) or []):
                causes += _endpoint_address(address, f"{path}.{key}[{number}]")
        causes += _endpoint_ports(subset.get("ports") or [], f"{path}.ports")
    return causes


def _endpoint_address(address: Object, path: str) -> list[Cause]:
    causes = addresses.flaws(f"{path}.ip", address["ip"])
    causes += addresses.special(f"{path}.ip", address["ip"])
    if address.get("hostname"):
        causes += _by_rule("label", address["hostname"], f"{path}.hostname")
    if address.get("nodeName"):
        causes += _by_rule("subdomain", address["nodeName"], f"{path}.nodeName")
    return causes


def _endpoint_ports(ports: list[Object], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, port in enumerate(ports):
        where, name = f"{path}[{index}]", port.get("name")
        if name:
            causes += _by_rule("label", name, f"{where}.name")
        elif len(ports) > 1:
            causes.append(required(f"{where}.name"))
        if "port" not in port:
            causes.append(required(f"{where}.port"))
        if "appProtocol" in port:
            causes += checks.qualified(port["appProtocol"], f"{where}.appProtocol")
    return causes
