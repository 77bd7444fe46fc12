"""What a Service is given: cluster IPs, node ports, and a port for health checks.

Nothing is reserved ahead: a free number is looked up, and in the same turn of the event loop the Service
that has it is stored, together with the IPAddress. So a write that is refused, or only a dry run, takes
nothing, one that the database refuses gives everything back, and what is taken is exactly what the stored
objects say.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Final

from tulle.apiserver import addresses, service_families, status
from tulle.apiserver.kinds import Object
from tulle.apiserver.service_cidrs import IPS, is_taken, offered
from tulle.apiserver.service_families import takes_addresses
from tulle.apiserver.services import NODE_PORT_TYPES, needs_health_check, node_ports
from tulle.apiserver.status import Cause, bad_value
from tulle.apiserver.store import Key, Store
from tulle.apiserver.times import stamp

SERVICES: Final = "/services"
NODE_PORTS: Final = range(30000, 32768)
MANAGED = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
TAKEN_PORT = "provided port is already allocated"


def ports_of(service: Object) -> set[int]:
    """Every port of the nodes that a Service takes."""
    spec = service["spec"]
    return {*node_ports(spec)} | ({spec["healthCheckNodePort"]} if "healthCheckNodePort" in spec else set())


def ips_of(service: Object | None) -> list[str]:
    """A Service's cluster IPs, in the form in which IPAddresses are named."""
    if service is None or not takes_addresses(service["spec"]):
        return []
    return [str(ip) for ip in map(addresses.parse, service["spec"].get("clusterIPs", ())) if ip]


class ServiceKeeper:
    """Gives each Service what it has not, and takes back what it has no more."""

    def __init__(self, store: Store, numbers: range = NODE_PORTS) -> None:
        self._store = store
        self._numbers = numbers
        self._holders = store.index(SERVICES, ports_of)

    def complete(self, new: Object, old: Object | None) -> list[Cause]:
        """Fills in families, addresses and ports, or returns why they cannot be had."""
        networks = offered(self._store)
        families = list(dict.fromkeys(f"IPv{network.version}" for network in networks))
        before = old["spec"] if old is not None else None
        if causes := service_families.settle(new["spec"], before, families):
            return causes
        return self._addresses(new["spec"], before, networks) + self._ports(new, old)

    def _addresses(
        self, spec: Object, before: Object | None, networks: list[addresses.Network]
    ) -> list[Cause]:
        """The addresses that the old object had stay; whether they may is for the checks."""
        if not takes_addresses(spec) or (before is not None and service_families.is_headless(before)):
            return []
        held = len(before.get("clusterIPs", ())) if before is not None and takes_addresses(before) else 0
        if not spec["ipFamilies"]:
            raise status.internal("failed to allocate a serviceIP: no ServiceCIDR is ready")
        ips, causes = list(spec.get("clusterIPs", ())), list[Cause]()
        for index, family in list(enumerate(spec["ipFamilies"]))[held:]:
            if index < len(ips):
                causes += self._claim(ips[index], ips, networks)
            else:
                ips.append(self._next(family, networks))
        spec["clusterIPs"] = ips
        spec.setdefault("clusterIP", ips[0])
        return causes

    def _claim(self, ip: str, ips: list[str], networks: list[addresses.Network]) -> list[Cause]:
        address, failed = addresses.parse(ip), f"failed to allocate IP {ip}"
        if address is None or not any(addresses.holds(network, address) for network in networks):
            right = ", ".join(str(each) for each in networks if f"IPv{each.version}" == addresses.family(ip))
            why = f"the provided IP ({ip}) is not in the valid range. The range of valid IPs is {right}"
            return [bad_value("spec.clusterIPs", ips, f"{failed}: {why}")]
        if is_taken(self._store, str(address)):
            return [bad_value("spec.clusterIPs", ips, f"{failed}: provided IP is already allocated")]
        return []

    def _next(self, family: str, networks: list[addresses.Network]) -> str:
        for network in networks:
            if f"IPv{network.version}" == family:
                found = addresses.draw_address(network, lambda ip: is_taken(self._store, ip))
                if found is not None:
                    return found
        raise status.internal("failed to allocate a serviceIP: range is full")

    def _ports(self, new: Object, old: Object | None) -> list[Cause]:
        spec = new["spec"]
        if spec["type"] not in NODE_PORT_TYPES:
            return []
        key, held = _key(new), ports_of(old) if old is not None else set()
        causes: list[Cause] = []
        for index, port in enumerate(spec.get("ports", ())):
            if "nodePort" in port and port["nodePort"] not in held:
                causes += self._check_port(f"spec.ports[{index}].nodePort", port["nodePort"], key)
        number = spec.get("healthCheckNodePort")
        if needs_health_check(spec) and number is not None:
            path = "spec.healthCheckNodePort"
            causes += [] if number in held else self._check_port(path, number, key)
            if number in node_ports(spec):
                causes.append(bad_value(path, number, TAKEN_PORT))
        if not causes:
            self._fill_ports(spec, held | ports_of(new), shared=old is None)
        return causes

    def _check_port(self, path: str, number: int, key: Key) -> list[Cause]:
        if number not in self._numbers:
            right = f"The range of valid ports is {self._numbers.start}-{self._numbers.stop - 1}"
            return [bad_value(path, number, f"provided port is not in the valid range. {right}")]
        taken = any(holder != key for holder in self._holders.of(number))
        return [bad_value(path, number, TAKEN_PORT)] if taken else []

    def _fill_ports(self, spec: Object, used: set[int], *, shared: bool) -> None:
        """In a new Service one port number of two protocols gets one node port (S-26)."""
        if spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts"):
            ports = spec.get("ports", [])
            known = {port["port"]: port["nodePort"] for port in ports if "nodePort" in port}
            for port in ports:
                if "nodePort" not in port:
                    port["nodePort"] = (shared and known.get(port["port"])) or self._next_port(used)
                    known.setdefault(port["port"], port["nodePort"])
                    used.add(port["nodePort"])
        if needs_health_check(spec) and "healthCheckNodePort" not in spec:
            spec["healthCheckNodePort"] = self._next_port(used)

    def _next_port(self, used: Collection[int]) -> int:
        size = len(self._numbers)
        reserved = 0 if size <= 16 else min(max(16, size // 32), 128)
        first, last = self._numbers.start, self._numbers.stop - 1
        found = addresses.draw(first, last, reserved, lambda n: n in used or bool(self._holders.of(n)))
        if found is None:
            raise status.internal("failed to allocate a nodePort: range is full")
        return found

    def follow(self, new: Object | None, old: Object | None) -> None:
        """Stores the IPAddresses of a Service as it is now, removes those that it has no more."""
        now, before = ips_of(new), ips_of(old)
        for ip in before:
            if ip not in now and (record := self._store.get(IPS, "", ip)):
                self._store.remove(IPS, record.copy())
        for ip in now:
            if ip not in before and new is not None:
                self._store.put(IPS, address_of(ip, new))


def _key(service: Object) -> Key:
    return service["metadata"]["namespace"], service["metadata"]["name"]


def address_of(ip: str, service: Object) -> Object:
    """The IPAddress of a Service's cluster IP."""
    namespace, name = _key(service)
    labels = {"ipaddress.kubernetes.io/ip-family": addresses.family(ip), **MANAGED}
    meta = {"name": ip, "uid": str(uuid.uuid4()), "creationTimestamp": stamp(), "labels": labels}
    parent = {"resource": "services", "namespace": namespace, "name": name}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": meta,
        "spec": {"parentRef": parent},
    }
