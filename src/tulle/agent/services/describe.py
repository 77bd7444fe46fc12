"""A look at Services, put into the words of `tulle status`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tulle.agent.services.api import ApiSide
from tulle.agent.services.look import Look
from tulle.agent.services.maps import KernelSide
from tulle.agent.services.shown import (
    EndpointStatus,
    LeadStatus,
    PortStatus,
    ProblemStatus,
    ServicesStatus,
    SetStatus,
)
from tulle.kube.resources import Key
from tulle.model.address import from_bytes
from tulle.pod_to_service.compare import Pair
from tulle.pod_to_service.judged import Judged, judge
from tulle.pod_to_service.observed import KernelPort
from tulle.pod_to_service.plan import Backend, Traffic
from tulle.pod_to_service.words import say_backend, say_empty, say_frontend, say_protocol


def describe(look: Look, balanced: bool, api_error: str = "") -> ServicesStatus:
    """``balanced``: whether this node is to have Services. ``api_error``: why the API did not answer."""
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
