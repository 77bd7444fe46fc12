"""Which Service a frontend belongs to. Pure bookkeeping.

The API gives each address inside the cluster, and each node port, to one Service; an address outside may be
shared by Services on different ports. Should two ask for the same all the same, the kernel's table can hold
but one of them, and the end of the other must not take it away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tulle.kube.resources import Key
from tulle.model.address import from_bytes
from tulle.pod_to_service.plan import Frontend, Kind, Lead, PortPlan, Problem, ServicePlan
from tulle.pod_to_service.words import say_frontend

_FIELDS = {
    Kind.CLUSTER_IP: "spec.clusterIPs",
    Kind.NODE_PORT: "spec.ports[].nodePort",
    Kind.LOAD_BALANCER: "status.loadBalancer.ingress",
    Kind.EXTERNAL_IP: "spec.externalIPs",
}


def claims_of(leads: Iterable[Lead]) -> tuple[Frontend, ...]:
    """All that the leads of a Service claim: of an address inside the cluster, all other ports, too."""
    claimed: dict[Frontend, None] = {}
    for lead in leads:
        if lead.kind is Kind.CLUSTER_IP:
            claimed[any_port(lead.frontend)] = None
        claimed[lead.frontend] = None
    return tuple(claimed)


def any_port(frontend: Frontend) -> Frontend:
    """The frontend that stands for all ports of its address that have none of their own."""
    return Frontend(frontend.address, 0, 0)


class Claims:
    """Who came first has the frontend, until it gives it up; but what is reserved is no Service's."""

    def __init__(self) -> None:
        self._owners: dict[Frontend, Key] = {}
        self._held: dict[Key, tuple[Frontend, ...]] = {}
        self._waiting: dict[Frontend, list[Key]] = {}
        self._reserved: dict[Frontend, str] = {}

    def reserve(self, frontends: Mapping[Frontend, str]) -> list[Key]:
        """Exactly these are not for Services, with whose they are in words. Returns the Services that claim
        one which is so from now on, or no more.
        """
        changed = {frontend for frontend, _ in self._reserved.items() ^ frontends.items()}
        self._reserved = dict(frontends)
        return [key for key, held in self._held.items() if not changed.isdisjoint(held)] if changed else []

    def put(self, key: Key, frontends: tuple[Frontend, ...]) -> list[Key]:
        """What a Service claims as of now. Returns the other Services that get one by that."""
        before = self._held.pop(key, ())
        if frontends:
            self._held[key] = frontends
        if before == frontends:
            return []
        heirs = [self._release(key, f) for f in set(before).difference(frontends)]
        for frontend in frontends:
            if self._owners.setdefault(frontend, key) != key:
                waiting = self._waiting.setdefault(frontend, [])
                waiting += [key] if key not in waiting else []
        return [heir for heir in heirs if heir]

    def at(self, addresses: Iterable[bytes]) -> list[Key]:
        """The Services that claim something at one of these addresses."""
        asked = frozenset(addresses)
        return [key for key, held in self._held.items() if any(f.address in asked for f in held)]

    def _release(self, key: Key, frontend: Frontend) -> Key | None:
        """Who has the frontend next, if it changes hands."""
        waiting = self._waiting.get(frontend, [])
        if key in waiting:
            waiting.remove(key)
            heir = None
        elif waiting:
            heir = self._owners[frontend] = waiting.pop(0)
        else:
            del self._owners[frontend]
            heir = None
        if not waiting:
            self._waiting.pop(frontend, None)
        return heir

    def without_foreign(self, key: Key, plan: ServicePlan) -> ServicePlan:
        """The plan without the frontends that belong to another Service, or to a Pod."""
        foreign = {f: owner for f in self._held.get(key, ()) if (owner := self._other_owner(key, f))}
        if not foreign:
            return plan
        problems = {
            _problem(key, lead, owner): None
            for port in plan.ports
            for lead in port.leads
            if (owner := _owner(lead, foreign))
        }
        ports = [_without(port, foreign) for port in plan.ports]
        return ServicePlan(tuple(port for port in ports if port.leads), (*plan.problems, *problems))

    def _other_owner(self, key: Key, frontend: Frontend) -> str:
        """In words; empty where it is the Service's own."""
        if frontend in self._reserved:
            return self._reserved[frontend]
        owner = self._owners[frontend]
        return "" if owner == key else f"Service {'/'.join(owner)}"


def _owner(lead: Lead, foreign: Mapping[Frontend, str]) -> str:
    """Whose the frontend is; empty if it is the Service's."""
    if lead.kind is Kind.CLUSTER_IP and (owner := foreign.get(any_port(lead.frontend))):
        return owner
    return foreign.get(lead.frontend, "")


def _without(port: PortPlan, foreign: Mapping[Frontend, str]) -> PortPlan:
    return port.with_leads(tuple(lead for lead in port.leads if not _owner(lead, foreign)))


def _problem(key: Key, lead: Lead, owner: str) -> Problem:
    inside = lead.kind is Kind.CLUSTER_IP
    what = str(from_bytes(lead.frontend.address)) if inside else say_frontend(lead.frontend)
    is_of = "is the address of" if inside else "belongs to"
    message = f"{what} {is_of} {owner} already; one that is free is right"
    return Problem("Service", key, _FIELDS[lead.kind], message)
