"""The part of a verification that is about clients from outside: what it makes, and what it must know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.errors import ApiError
from tulle.kube.client import Client
from tulle.kube.resources import SERVICES
from tulle.verify import external, external_judge, external_plan, service_judge
from tulle.verify.external import ANNOUNCED, BY_IP, OPEN
from tulle.verify.external_plan import ExternalCheck
from tulle.verify.judge import Answer, NodeAddresses, Row
from tulle.verify.plan import Place
from tulle.verify.pods import primary_addresses
from tulle.verify.services import Facts
from tulle.verify.statements import Family

_OPTIONAL = frozenset({BY_IP, ANNOUNCED})
"""What a cluster may well forbid."""


@dataclass(frozen=True)
class Outside:
    """What is known of those who come from outside. ``command`` runs the probe at ``clients``: one, or none.

    ``allowed`` are the places that ``GUARDED`` lets in, ``host_port`` leads to the first Pod of each node.
    """

    command: Sequence[str]
    clients: Sequence[Place]
    entries: Mapping[str, Mapping[Family, str]]
    host_port: int
    first: Place | None = None
    allowed: frozenset[str] = frozenset()


async def start(
    client: Client, namespace: str, bodies: Iterable[dict[str, Any]]
) -> tuple[list[Row], list[str]]:
    """Creates Services, and is the load balancer of those that have none. Rows and notes on refusals."""
    rows: list[Row] = []
    notes: list[str] = []
    for body in bodies:
        name = body["metadata"]["name"]
        try:
            made = await client.create(SERVICES, body, namespace)
            if external.is_balanced_by_us(made):
                status = external.balanced_at(made)
                await client.patch(SERVICES, name, status, namespace, subresource="status")
        except ApiError as error:
            if name in _OPTIONAL:
                notes.append(f"Service {name} is not judged, as the API does not take it: {error}")
            else:
                rows.append(service_judge.refused(name, str(error)))
    return rows, notes


def about(
    places: Sequence[Place], entries: Mapping[str, Mapping[Family, str]]
) -> tuple[Place | None, frozenset[str], list[str]]:
    """The Pod that is to be a Service's only endpoint; the places to be let in, and their networks (S-61)."""
    first = next((place for place in places if place.role == "a"), None)
    if first is None:
        return None, frozenset(), []
    hosts = [place for place in places if place.host_network and place.node == first.node]
    addresses = [*first.addresses, *entries.get(first.node, {}).values()]
    allowed = frozenset(map(str, (first, *hosts)))
    return first, allowed, [external.single(address) for address in addresses]


async def ground(
    client: Client,
    namespace: str,
    places: Sequence[Place],
    families: Sequence[Family],
    facts: Facts,
    outside: Outside,
) -> external_plan.Ground:
    """With the ports and addresses that the API has given by now."""
    services = (await client.list(SERVICES, namespace)).items
    return external_plan.Ground(
        places=places,
        outside=outside.clients,
        families=families,
        entries=outside.entries,
        gates=external.gates(services),
        facts=facts,
        first=outside.first,
        allowed=outside.allowed,
        host_port=outside.host_port,
    )


def entries(nodes: Iterable[dict[str, Any]]) -> dict[str, dict[Family, str]]:
    """The addresses at which NodePorts are reached by default, by node (S-21)."""
    return {node["metadata"]["name"]: primary_addresses(node) for node in nodes}


def notes(
    ground: external_plan.Ground,
    checks: Iterable[tuple[ExternalCheck, Answer | None]],
    nodes: NodeAddresses,
) -> list[str]:
    """What could not be judged, and what is allowed though not everybody expects it."""
    said = []
    if not ground.outside:
        said.append(
            "no client outside the cluster takes part: what comes from outside is judged between nodes only, "
            "and load balancers' addresses only from inside; --outside names one"
        )
    elif not ground.gates.get(ANNOUNCED, external.Gate()).vips:
        said.append("nobody gives addresses to load balancers: they are judged only from inside")
    strange = {
        peer
        for check, answer in checks
        if answer and check.service == OPEN
        for peer in external_judge.strangers(check, answer, nodes)
    }
    if strange:
        said.append(
            "endpoints see clients of NodePorts as "
            f"{', '.join(sorted(strange))}, which externalTrafficPolicy Cluster allows"
        )
    return said
