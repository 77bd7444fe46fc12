"""A look at Services from both sides, the kernel's and the API's, and how the two differ. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tulle.agent.services.api import ApiSide
from tulle.agent.services.maps import KernelSide
from tulle.agent.settings import Settings
from tulle.model.address import from_bytes
from tulle.pod_to_pod.programs import SOCKET_PROGRAMS
from tulle.pod_to_service.compare import Difference, Mark, Pair, compare, confirm
from tulle.pod_to_service.own import own_addresses

SECOND_LOOK = 1.0
"""Seconds after which a difference is looked at again: a change may have been under way."""


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


def look_at(api: ApiSide, kernel: KernelSide, settings: Settings) -> Look:
    """On a node that does not balance Services there should be nothing.

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
    """The second look with the differences that the first one had, too."""
    others = tuple(each for each in second.others if each in first.others)
    return replace(second, pairs=confirm(first.pairs, second.pairs), others=others)
