"""Services as this node's kernel has them, beside what the API says, with the differences."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from tulle.agent.host_ports.status import planned, split
from tulle.agent.services.api import ApiSide, ask, connected
from tulle.agent.services.maps import KernelSide, ServiceMaps, Size
from tulle.agent.settings import Settings
from tulle.errors import ApiError, ApiUnreachable, ConfigError, TulleError
from tulle.kube.resources import Key
from tulle.model.address import from_bytes, parse_lenient
from tulle.pod_to_pod.datapath import SOCKET_PROGRAMS, Pinned
from tulle.pod_to_service.compare import (
    Difference,
    Mark,
    Pair,
    compare,
    confirm,
    kernel_only,
)
from tulle.pod_to_service.judged import Judged, judge
from tulle.pod_to_service.observed import KernelPort
from tulle.pod_to_service.own import own_addresses
from tulle.pod_to_service.plan import Backend, Traffic
from tulle.pod_to_service.words import say_backend, say_empty, say_frontend, say_protocol

SECOND_LOOK = 1.0
"""Seconds after which a difference is looked at again: a change may have been under way."""


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


@dataclass(frozen=True, slots=True)
class Look:
    """Both sides at one moment; ``api`` is None where it did not answer. ``others``: differences that belong
    to no port.
    """

    kernel: KernelSide
    api: ApiSide | None
    pairs: list[Pair]
    others: tuple[Difference, ...] = ()

    @property
    def well(self) -> bool:
        return not self.others and not any(pair.differences for pair in self.pairs)


async def services_status(settings: Settings) -> ServicesStatus:
    """Looks twice when there are differences, and tells those that stay. Raises ``KernelError``."""
    maps = _ServicesOf(settings)
    try:
        async with connected(settings) as client:
            look = look_at(await ask(client, settings), maps.read(), settings)
            if not look.well:
                await asyncio.sleep(SECOND_LOOK)
                again = look_at(await ask(client, settings), maps.read(), settings)
                look = confirmed(look, again)
            return describe(look, settings.services)
    except (ApiError, ApiUnreachable, ConfigError) as error:
        kernel = maps.read()
        return describe(Look(kernel, None, kernel_only(kernel.table)), settings.services, str(error))


class _ServicesOf:
    """The kernel's side without host ports, which are in the same table, and no Services."""

    def __init__(self, settings: Settings) -> None:
        self._maps = ServiceMaps(Pinned(Path(settings.bpffs)))
        self._state = Path(settings.state_dir)

    def read(self) -> KernelSide:
        kernel = self._maps.read()
        return replace(kernel, table=split(kernel.table, planned(self._state))[0])


def look_at(api: ApiSide, kernel: KernelSide, settings: Settings) -> Look:
    """On a node that does not balance Services there should be nothing. Pure.

    Ask the API first: the kernel follows it, so that by then it has what the API said.
    """
    balanced = settings.services
    plans = [port for plan in api.plans.values() for port in plan.ports] if balanced else []
    cidrs = api.cidrs if balanced else frozenset()
    others = _differences("Service CIDR", kernel.cidrs if cidrs is None else cidrs, kernel.cidrs)
    others += _differences("program at the sockets:", SOCKET_PROGRAMS, kernel.programs)
    own = own_addresses(kernel.own, api.here.addresses, settings.node_ports, cidrs or ())
    others += _differences("this node's", _say_own(own), _say_own(kernel.own_addresses))
    return Look(kernel, api, compare(plans, kernel.table, kernel.own), tuple(others))


def _say_own(addresses: Mapping[bytes, bool]) -> list[str]:
    return [
        f"{from_bytes(address)}{', for node ports' if node_ports else ''}"
        for address, node_ports in addresses.items()
    ]


def _differences(what: str, wanted: Iterable[object], there: Iterable[object]) -> list[Difference]:
    asked, found = set(map(str, wanted)), set(map(str, there))
    missing = [Difference(Mark.MISSING, f"{what} {each}") for each in sorted(asked - found)]
    return missing + [Difference(Mark.ONLY, f"{what} {each}") for each in sorted(found - asked)]


def confirmed(first: Look, second: Look) -> Look:
    """The second look with the differences that the first one had, too. Pure."""
    others = tuple(each for each in second.others if each in first.others)
    return replace(second, pairs=confirm(first.pairs, second.pairs), others=others)


def describe(look: Look, balanced: bool, api_error: str = "") -> ServicesStatus:
    """Pure."""
    kernel, api = look.kernel, look.api
    plans = api.plans if api else {}
    return ServicesStatus(
        api_error=api_error,
        balanced=balanced,
        cidrs=tuple(sorted(map(str, kernel.cidrs))),
        own_addresses=tuple(str(from_bytes(address)) for address in sorted(kernel.table.own)),
        node_port_addresses=tuple(
            str(from_bytes(address)) for address, reached in sorted(kernel.own_addresses.items()) if reached
        ),
        clients=dict(kernel.clients),
        sizes=dict(kernel.sizes),
        differences=tuple(map(str, look.others)),
        problems=tuple(
            ProblemStatus("/".join(key), f"{each.kind} {'/'.join(each.key)}: {each.field}: {each.message}")
            for key, plan in plans.items()
            for each in plan.problems
        ),
        without_ports=tuple("/".join(key) for key, plan in plans.items() if not plan.ports),
        ports=tuple(_ports(look.pairs, api, kernel)),
    )


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


def _ports(pairs: Sequence[Pair], api: ApiSide | None, kernel: KernelSide) -> Iterable[PortStatus]:
    judged = _judge_all(pairs, api) if api else {}
    for number, pair in enumerate(pairs):
        yield _port(pair, judged.get(number, []), kernel)


def _judge_all(pairs: Sequence[Pair], api: ApiSide) -> dict[int, list[Judged]]:
    """By the pair's place; a Service's slices are gone through once for all its ports."""
    places: dict[Key, list[int]] = {}
    for number, pair in enumerate(pairs):
        if pair.plan:
            places.setdefault(pair.plan.service, []).append(number)
    judged: dict[int, list[Judged]] = {}
    for key, numbers in places.items():
        plans = [plan for number in numbers if (plan := pairs[number].plan)]
        found = judge(api.slices.get(key, ()), plans, api.here)
        judged.update(zip(numbers, found, strict=True))
    return judged


def _port(pair: Pair, judged: Iterable[Judged], kernel: KernelSide) -> PortStatus:
    plan, frontends = pair.plan, pair.frontends
    return PortStatus(
        service="/".join(plan.service) if plan else "",
        port=plan.port if plan else "",
        protocol=say_protocol(frontends[0].protocol),
        frontends=tuple(map(say_frontend, frontends)),
        leads=tuple(_leads(pair, kernel)),
        of_node=frontends[0].address in kernel.table.own,
        sets=tuple(_set(traffic, port) for traffic, port in pair.kernel.items()),
        endpoints=tuple(_endpoints(judged, pair.kernel)),
        differences=tuple(map(str, pair.differences)),
    )


def _leads(pair: Pair, kernel: KernelSide) -> Iterable[LeadStatus]:
    """As the API wants them; of what only the kernel has, as they are."""
    for lead in pair.plan.leads if pair.plan else ():
        sources = None if lead.sources is None else tuple(map(str, lead.sources))
        shown = say_frontend(lead.frontend)
        yield LeadStatus(shown, lead.kind.value, lead.inside.value, lead.outside.value, sources)
    planned = pair.plan.frontends if pair.plan else ()
    traffic_of = {port.index: traffic.value for traffic, port in pair.kernel.items()}
    for frontend in pair.frontends:
        if frontend not in planned and (there := kernel.table.leads.get(frontend)):
            inside, outside = (traffic_of.get(index, "") for index in (there.inside, there.outside))
            yield LeadStatus(say_frontend(frontend), "", inside, outside)


def _set(traffic: Traffic, port: KernelPort) -> SetStatus:
    complete = port.choice is not None
    return SetStatus(
        traffic=traffic.value,
        index=port.index,
        affinity=port.affinity if complete else None,
        when_empty=say_empty(port.choice.on_empty) if port.choice else None,
        hits=port.hits,
    )


def _endpoints(judged: Iterable[Judged], kernel: Mapping[Traffic, KernelPort]) -> Iterable[EndpointStatus]:
    """Those that the API knows, then those that only the kernel has."""
    left: dict[Backend, list[str]] = {}
    for traffic, port in kernel.items():
        for backend in port.choice.backends if port.choice else ():
            left.setdefault(backend, []).append(traffic.value)
    for backend, standing, used, why in judged:
        yield EndpointStatus(
            endpoint=say_backend(backend),
            in_kernel=tuple(left.pop(backend, ())),
            used=tuple(traffic.value for traffic in used),
            ready=standing.ready,
            serving=standing.serving,
            terminating=standing.terminating,
            local=standing.local,
            zones=tuple(sorted(standing.zones)),
            nodes=tuple(sorted(standing.nodes)),
            why=why,
        )
    for backend, there in left.items():
        yield EndpointStatus(say_backend(backend), in_kernel=tuple(there))
