"""What the kernel's Service table has, beside what it should have by the API. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from tulle.model.address import from_bytes
from tulle.pod_to_service.observed import KernelPort, KernelTable
from tulle.pod_to_service.plan import PROTOCOLS, Backend, Frontend, OnEmpty, PortPlan

_NAMES = {number: name for name, number in PROTOCOLS.items()}


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

    ``plan`` or ``kernel`` is None where that side has nothing of it.
    """

    plan: PortPlan | None
    kernel: KernelPort | None
    differences: tuple[Difference, ...] = ()

    @property
    def frontends(self) -> tuple[Frontend, ...]:
        """Those of the plan first."""
        planned = self.plan.frontends if self.plan else ()
        return tuple(dict.fromkeys([*planned, *(self.kernel.frontends if self.kernel else ())]))


def compare(plans: Iterable[PortPlan], table: KernelTable, own: frozenset[bytes]) -> list[Pair]:
    """A pair for each plan in their order, then what the kernel has beside them.

    ``own``: addresses that the node itself has; a Service with one of them is left to the node.
    """
    plans = list(plans)
    pairs = [_compare(plan, table, own) for plan in plans]
    claimed = {f for plan in plans for f in plan.frontends}
    claimed |= {f for pair in pairs if pair.kernel for f in pair.kernel.frontends}
    pairs += _unclaimed(claimed, table)
    return pairs


def kernel_only(table: KernelTable) -> list[Pair]:
    """What the kernel has, by index: there is nothing to compare it with."""
    return [Pair(None, port) for _, port in sorted(table.ports.items())]


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
    indices: dict[int, None] = {}
    for frontend in plan.frontends:
        found += _frontend(frontend, table, own)
        if (index := table.indices.get(frontend)) is not None:
            indices[index] = None
    kernels = [table.ports[index] for index in indices]
    for kernel in kernels:
        found += _contents(plan, kernel)
        others = [f for f in kernel.frontends if f not in plan.frontends]
        found += [
            Difference(Mark.DIFFERS, f"{say_frontend(f)} leads here, too, in the kernel") for f in others
        ]
    if len(kernels) > 1:
        found.append(Difference(Mark.DIFFERS, "its frontends lead to different sets in the kernel"))
    return Pair(plan, kernels[0] if kernels else None, tuple(dict.fromkeys(found)))


def _frontend(frontend: Frontend, table: KernelTable, own: frozenset[bytes]) -> Iterator[Difference]:
    address, there = frontend.address, frontend in table.indices
    shown = str(from_bytes(address))
    if address in own:
        if there:
            yield Difference(Mark.ONLY, f"{say_frontend(frontend)} (this node has the address itself)")
        if address not in table.own:
            yield Difference(Mark.MISSING, f"{shown} left to this node, which has the address itself")
        return
    if not there:
        yield Difference(Mark.MISSING, say_frontend(frontend))
    if address in table.own:
        yield Difference(Mark.DIFFERS, f"{shown} is left to this node, which does not have the address")
    elif address not in table.refusing:
        yield Difference(Mark.MISSING, f"{shown}, refusing other ports")


def _contents(plan: PortPlan, kernel: KernelPort) -> Iterator[Difference]:
    if not kernel.complete:
        yield Difference(Mark.MISSING, f"the endpoints (index {kernel.index} leads to no set)")
        return
    yield from _backends("", plan.backends, kernel.backends)
    if plan.serving != plan.backends or kernel.serving != kernel.backends:
        yield from _backends(" for old flows", plan.serving, kernel.serving)
    if plan.affinity != kernel.affinity:
        yield _differs("affinity", say_affinity(kernel.affinity), say_affinity(plan.affinity))
    if plan.on_empty is not kernel.on_empty:
        yield _differs("when empty", say_empty(kernel.on_empty), say_empty(plan.on_empty))


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


def _unclaimed(claimed: set[Frontend], table: KernelTable) -> Iterator[Pair]:
    known = {frontend.address for frontend in claimed}
    for _, port in sorted(table.ports.items()):
        if not claimed.intersection(port.frontends):
            yield Pair(None, port, tuple(Difference(Mark.ONLY, say_frontend(f)) for f in port.frontends))
            known |= {frontend.address for frontend in port.frontends}
    for address in sorted((table.refusing | table.own) - known):
        nowhere = KernelPort(0, (Frontend(address, 0, 0),))
        yield Pair(None, nowhere, (Difference(Mark.ONLY, str(from_bytes(address))),))


def say_backend(backend: Backend) -> str:
    """``10.244.1.5:8080``, ``[fd00::5]:8080``."""
    address = from_bytes(backend.address)
    return f"{address}:{backend.port}" if address.version == 4 else f"[{address}]:{backend.port}"


def say_frontend(frontend: Frontend) -> str:
    """``10.96.0.7:80/TCP``; only the address where the frontend stands for all other ports."""
    if not frontend.port:
        return str(from_bytes(frontend.address))
    return f"{say_backend(Backend(frontend.address, frontend.port))}/{say_protocol(frontend.protocol)}"


def say_protocol(number: int) -> str:
    """``TCP``; nothing for 0, which stands for all."""
    if not number:
        return ""
    return _NAMES.get(number, str(number))


def say_affinity(seconds: int) -> str:
    """``10800 s``, or ``none``."""
    return f"{seconds} s" if seconds else "none"


def say_empty(on_empty: OnEmpty) -> str:
    """To the client: told at once, or nothing."""
    return "drop" if on_empty is OnEmpty.DROP else "refuse"
