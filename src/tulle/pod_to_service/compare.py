"""What the kernel's Service table has, beside what it should have by the API. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from tulle.model.address import Network, from_bytes
from tulle.pod_to_service.observed import KernelPort, KernelTable
from tulle.pod_to_service.plan import Backend, Choice, Frontend, Kind, Lead, PortPlan, Traffic
from tulle.pod_to_service.words import say_affinity, say_backend, say_empty, say_frontend, say_sources


class Mark(Enum):
    """How the kernel is not as it should be."""

    MISSING = "missing in the kernel"
    ONLY = "only in the kernel"
    DIFFERS = "differs"


class Difference(NamedTuple):
    """``about``: a frontend, an endpoint, or a word on what both sides have."""

    mark: Mark
    about: str

    def __str__(self) -> str:
        return f"{self.about}: {self.mark.value}" if self.mark is not Mark.DIFFERS else self.about


@dataclass(frozen=True, slots=True)
class Pair:
    """One port of a Service in one family, as the API wants it and as the kernel has it.

    ``plan`` is None, or ``kernel`` empty, where that side has nothing of it. ``others``: an address of which
    the kernel has nothing but what becomes of its other ports.
    """

    plan: PortPlan | None
    kernel: Mapping[Traffic, KernelPort]
    differences: tuple[Difference, ...] = ()
    others: Frontend | None = None

    @property
    def frontends(self) -> tuple[Frontend, ...]:
        """Those of the plan first."""
        planned = self.plan.frontends if self.plan else ()
        there = [f for port in self.kernel.values() for f in port.frontends]
        return tuple(dict.fromkeys([*planned, *there, *([self.others] if self.others else [])]))


def compare(plans: Iterable[PortPlan], table: KernelTable, own: frozenset[bytes]) -> list[Pair]:
    """A pair for each plan in their order, then what the kernel has beside them.

    ``own``: addresses that the node itself has; a ClusterIP that is one of them is left to the node.
    """
    plans = list(plans)
    pairs = [_compare(plan, table, own) for plan in plans]
    claimed = {
        index
        for plan in plans
        for frontend in plan.frontends
        if (lead := table.leads.get(frontend))
        for index in (lead.inside, lead.outside)
    }
    pairs += _groups(table, claimed)
    known = {frontend.address for pair in pairs for frontend in pair.frontends}
    for address in sorted((table.refusing | table.refusing_outside | table.own) - known):
        found = (Difference(Mark.ONLY, str(from_bytes(address))),)
        pairs.append(Pair(None, {}, found, Frontend(address, 0, 0)))
    return pairs


def kernel_only(table: KernelTable) -> list[Pair]:
    """What the kernel has, by index: there is nothing to compare it with."""
    return [replace(pair, differences=()) for pair in _groups(table, set())]


def _groups(table: KernelTable, claimed: set[int]) -> Iterator[Pair]:
    """A pair for each index that is not claimed, or for two to which one frontend leads. Whoever is outside
    is led elsewhere than whoever is inside only by the policy Local.
    """
    local = {lead.inside: lead.outside for lead in table.leads.values() if lead.inside != lead.outside}
    seconds = set(local.values())
    for index, port in sorted(table.ports.items()):
        if index in claimed or (index in seconds and index not in local):
            continue
        kernel = {Traffic.CLUSTER: port}
        if index in local and local[index] not in claimed:
            kernel[Traffic.LOCAL] = table.ports[local[index]]
        pair = Pair(None, kernel)
        yield replace(pair, differences=tuple(Difference(Mark.ONLY, say_frontend(f)) for f in pair.frontends))


def confirm(first: Iterable[Pair], second: Iterable[Pair]) -> list[Pair]:
    """The second look, with only those differences that the first one found, too: the others were a change
    under way, or are one now.
    """
    seen = {(_identity(pair), difference) for pair in first for difference in pair.differences}
    return [
        replace(pair, differences=tuple(d for d in pair.differences if (_identity(pair), d) in seen))
        for pair in second
    ]


def _identity(pair: Pair) -> object:
    plan = pair.plan
    return (plan.service, plan.port, plan.protocol, plan.family) if plan else pair.frontends


def _compare(plan: PortPlan, table: KernelTable, own: frozenset[bytes]) -> Pair:
    found: list[Difference] = []
    indices: defaultdict[Traffic, dict[int, None]] = defaultdict(dict)
    for lead in plan.leads:
        found += _lead(lead, table, own)
        if there := table.leads.get(lead.frontend):
            indices[lead.inside][there.inside] = None
            indices[lead.outside][there.outside] = None
    kernel = {traffic: table.ports[next(iter(each))] for traffic, each in sorted(indices.items())}
    for traffic, choice in plan.choices.items():
        for index in indices[traffic]:
            found += _contents(plan, choice, _of_set(plan, traffic), table.ports[index])
        if len(indices[traffic]) > 1:
            what = f"its frontends lead to different sets{_of_set(plan, traffic)} in the kernel"
            found.append(Difference(Mark.DIFFERS, what))
    ports = (table.ports[index] for each in indices.values() for index in each)
    others = dict.fromkeys(f for port in ports for f in port.frontends if f not in plan.frontends)
    found += [Difference(Mark.DIFFERS, f"{say_frontend(f)} leads here, too, in the kernel") for f in others]
    return Pair(plan, kernel, tuple(dict.fromkeys(found)))


def _of_set(plan: PortPlan, traffic: Traffic) -> str:
    """Which of two sets is spoken of, where there are two."""
    return f" of policy {traffic.name.capitalize()}" if len(plan.choices) > 1 else ""


def _lead(lead: Lead, table: KernelTable, own: frozenset[bytes]) -> Iterator[Difference]:
    frontend, there = lead.frontend, lead.frontend in table.leads
    is_own = frontend.address in own
    if lead.kind is Kind.CLUSTER_IP and is_own:
        if there:
            yield Difference(Mark.ONLY, f"{say_frontend(frontend)} (this node has the address itself)")
    elif not there:
        yield Difference(Mark.MISSING, say_frontend(frontend))
    elif (now := _sources(table, frontend)) != _asked(lead):
        yield _differs(f"{say_frontend(frontend)} lets in", say_sources(now), say_sources(lead.sources))
    yield from _other_ports(lead, table, is_own)


def _asked(lead: Lead) -> frozenset[Network] | None:
    return None if lead.sources is None else frozenset(lead.sources)


def _sources(table: KernelTable, frontend: Frontend) -> frozenset[Network] | None:
    guard = table.leads[frontend].guard
    return table.sources.get(guard, frozenset()) if guard else None


def _other_ports(lead: Lead, table: KernelTable, is_own: bool) -> Iterator[Difference]:
    """What becomes of ports of the address that are no Service's."""
    address = lead.frontend.address
    shown = str(from_bytes(address))
    if lead.kind is Kind.CLUSTER_IP and is_own:
        if address not in table.own:
            yield Difference(Mark.MISSING, f"{shown} left to this node, which has the address itself")
    elif lead.kind is Kind.CLUSTER_IP:
        if address in table.own:
            yield Difference(Mark.DIFFERS, f"{shown} is left to this node, which does not have the address")
        elif address not in table.refusing:
            yield Difference(Mark.MISSING, f"{shown}, refusing other ports")
    elif lead.kind is Kind.LOAD_BALANCER and is_own is (address in table.refusing_outside):
        what = f"{shown}, refusing other ports to clients outside"
        yield Difference(Mark.ONLY if is_own else Mark.MISSING, what)


def _contents(plan: PortPlan, choice: Choice, of_set: str, kernel: KernelPort) -> Iterator[Difference]:
    there = kernel.choice
    if there is None:
        yield Difference(Mark.MISSING, f"the endpoints{of_set} (index {kernel.index} leads to no set)")
        return
    yield from _backends(of_set, choice.backends, there.backends)
    if choice.serving != choice.backends or there.serving != there.backends:
        yield from _backends(f"{of_set} for old flows", choice.serving, there.serving)
    if plan.affinity != kernel.affinity:
        yield _differs("affinity", say_affinity(kernel.affinity), say_affinity(plan.affinity))
    if choice.on_empty is not there.on_empty:
        yield _differs(f"when empty{of_set}", say_empty(there.on_empty), say_empty(choice.on_empty))


def _differs(what: str, kernel: str, api: str) -> Difference:
    return Difference(Mark.DIFFERS, f"{what}: {kernel} in the kernel, {api} by the API")


def _backends(purpose: str, wanted: tuple[Backend, ...], there: tuple[Backend, ...]) -> Iterator[Difference]:
    """Each of them has the same share (S-36), so one that is there twice is a difference, too."""
    if wanted == there:
        return
    missing, more = Counter(wanted), Counter(there)
    for backend in sorted((missing - more).elements()):
        yield Difference(Mark.MISSING, f"endpoint {say_backend(backend)}{purpose}")
    for backend in sorted((more - missing).elements()):
        yield Difference(Mark.ONLY, f"endpoint {say_backend(backend)}{purpose}")
