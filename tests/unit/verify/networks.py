"""Three nodes with the Pods of verify, and what their checks see in a network that is given as a function."""

from __future__ import annotations

from collections.abc import Callable

from tulle.verify.judge import Answer, Outcome, outcome
from tulle.verify.plan import MAIN, SECOND, Check, Place, plan
from tulle.verify.statements import FAMILIES

NODES = ("n1", "n2", "n3")
NODE_ADDRESSES = {
    node: frozenset({f"172.30.0.{number}", f"fd00:30::{number}"}) for number, node in enumerate(NODES, 1)
}


def _places(number: int, node: str) -> list[Place]:
    def pod(role: str, last: int, containers: tuple[str, ...]) -> Place:
        addresses = (f"10.244.{number}.{last}", f"fd00:244:{number}::{last}")
        return Place(f"{role}-{number}", node, role, 8099, addresses, containers, packets=role == "b")

    host = (f"172.30.0.{number}", f"fd00:30::{number}")
    return [
        pod("a", 2, (MAIN, SECOND)),
        pod("b", 3, (MAIN,)),
        Place(f"host-{number}", node, "host", 20_000, host, host_network=True),
    ]


PLACES = [place for number, node in enumerate(NODES, 1) for place in _places(number, node)]
OWNERS = {address: node for node, addresses in NODE_ADDRESSES.items() for address in addresses} | {
    address: str(place) for place in PLACES if not place.host_network for address in place.addresses
}

Network = Callable[[Check], Answer]


def well(check: Check) -> Answer:
    """The answer of a network that keeps the model."""
    return Answer(0, check.target.pod, check.source.address(check.family))


def lost(check: Check) -> Answer:
    return Answer(0, error="no answer within 3 s")


def outcomes(network: Network) -> list[Outcome]:
    """What every check sees."""
    return [outcome(check, network(check), "", NODE_ADDRESSES) for check in plan(PLACES, FAMILIES)]
