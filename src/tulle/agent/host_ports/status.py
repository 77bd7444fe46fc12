"""Host ports as this node's kernel has them, beside what the records of its Pods say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from tulle.agent.host_ports.plan import plan_host_ports, table_key
from tulle.agent.services.look import SECOND_LOOK
from tulle.agent.services.maps import ServiceMaps
from tulle.agent.settings import Settings
from tulle.kube.resources import Key
from tulle.pod_to_pod.pinned import Pinned
from tulle.pod_to_pod.store import recorded
from tulle.pod_to_service.compare import Pair, compare
from tulle.pod_to_service.observed import KernelTable
from tulle.pod_to_service.plan import PortPlan, Scope
from tulle.pod_to_service.words import say_backend, say_frontend


class HostPortStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Ports of this node that lead to one port of a Pod in one family; ``pod`` is empty where only the kernel
    has them. ``leads_to``: as the kernel has it. ``hits``: how often something was led there.
    """

    host_ports: tuple[str, ...]
    pod: str
    leads_to: tuple[str, ...]
    hits: int
    differences: tuple[str, ...]


async def host_ports_status(settings: Settings) -> list[HostPortStatus]:
    """Looks twice when there are differences. Raises ``KernelError``."""
    maps, state = ServiceMaps(Pinned(Path(settings.bpffs))), Path(settings.state_dir)
    found = _look(maps, state)
    if any(each.differences for each in found):
        await asyncio.sleep(SECOND_LOOK)
        found = _look(maps, state)
    return found


def _look(maps: ServiceMaps, state: Path) -> list[HostPortStatus]:
    table, plans = maps.read().table, planned(state)
    names = {table_key(attachment): attachment.owner for attachment in recorded(state)}
    return describe(plans, split(table, plans)[1], names)


def planned(state: Path) -> list[PortPlan]:
    """What the records say."""
    return [plan for each in recorded(state) if not each.deleted for plan in plan_host_ports(each)]


def split(table: KernelTable, plans: Iterable[PortPlan]) -> tuple[KernelTable, KernelTable]:
    """The Services of a table, and its host ports: those of ``plans``, and others on all addresses. Pure."""
    known = {frontend for plan in plans for frontend in plan.frontends}
    ours = {f: to for f, to in table.leads.items() if f in known or f.scope is Scope.HOST_PORT}
    indices = {index for to in ours.values() for index in (to.inside, to.outside)}
    services = replace(
        table,
        ports={index: port for index, port in table.ports.items() if index not in indices},
        leads={f: to for f, to in table.leads.items() if f not in ours},
    )
    ports = {index: port for index, port in table.ports.items() if index in indices}
    return services, KernelTable(ports, ours)


def describe(plans: Iterable[PortPlan], table: KernelTable, names: Mapping[Key, str]) -> list[HostPortStatus]:
    """Pure; in the order of addresses and ports."""
    pairs = sorted(compare(plans, table, frozenset()), key=lambda pair: pair.frontends)
    return [_status(pair, names) for pair in pairs]


def _status(pair: Pair, names: Mapping[Key, str]) -> HostPortStatus:
    there = list(pair.kernel.values())
    backends = (b for port in there if port.choice for b in port.choice.backends)
    return HostPortStatus(
        host_ports=tuple(map(say_frontend, pair.frontends)),
        pod=names.get(pair.plan.service, "") if pair.plan else "",
        leads_to=tuple(map(say_backend, dict.fromkeys(backends))),
        hits=sum(port.hits for port in there),
        differences=tuple(map(str, pair.differences)),
    )
