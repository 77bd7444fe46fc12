"""Which Service an address belongs to. Pure bookkeeping.

The API gives each address to one Service. Should two have the same one all the same, the kernel's table can
hold but one of them, and the end of the other must not take it away.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from tulle.kube.resources import Key
from tulle.model.address import from_bytes
from tulle.pod_to_service.plan import PortPlan, Problem, ServicePlan


class Claims:
    """Who came first has the address, until it gives it up."""

    def __init__(self) -> None:
        self._owners: dict[bytes, Key] = {}
        self._held: dict[Key, tuple[bytes, ...]] = {}
        self._waiting: dict[bytes, list[Key]] = {}

    def put(self, key: Key, addresses: tuple[bytes, ...]) -> list[Key]:
        """The addresses of a Service as they are now. Returns the other Services that get one by that."""
        before = self._held.pop(key, ())
        if addresses:
            self._held[key] = addresses
        heirs = [self._release(key, a) for a in before if a not in addresses]
        for address in addresses:
            if self._owners.setdefault(address, key) != key:
                waiting = self._waiting.setdefault(address, [])
                waiting += [key] if key not in waiting else []
        return [heir for heir in heirs if heir]

    def owner(self, address: bytes) -> Key | None:
        """The Service that has it."""
        return self._owners.get(address)

    def _release(self, key: Key, address: bytes) -> Key | None:
        """Who has the address next, if it changes hands."""
        waiting = self._waiting.get(address, [])
        if key in waiting:
            waiting.remove(key)
            heir = None
        elif waiting:
            heir = self._owners[address] = waiting.pop(0)
        else:
            del self._owners[address]
            heir = None
        if not waiting:
            self._waiting.pop(address, None)
        return heir

    def without_foreign(self, key: Key, plan: ServicePlan) -> ServicePlan:
        """The plan without the addresses that belong to another Service."""
        foreign = {a: self._owners[a] for a in self._held.get(key, ()) if self._owners[a] != key}
        if not foreign:
            return plan
        problems = [_problem(key, address, owner) for address, owner in foreign.items()]
        ports = [_without(port, foreign) for port in plan.ports]
        return ServicePlan(tuple(port for port in ports if port.frontends), (*plan.problems, *problems))


def _without(port: PortPlan, addresses: Container[bytes]) -> PortPlan:
    return replace(port, frontends=tuple(f for f in port.frontends if f.address not in addresses))


def _problem(key: Key, address: bytes, owner: Key) -> Problem:
    other = "/".join(owner)
    message = f"{from_bytes(address)} is the address of Service {other} already; one that is free is right"
    return Problem("Service", key, "spec.clusterIPs", message)
