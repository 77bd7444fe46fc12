"""The network model itself: Pods and nodes ask each other, and what that says of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from tulle.kube.client import Client
from tulle.kube.resources import PODS
from tulle.verify import hops, judge
from tulle.verify.cluster import Question, ask
from tulle.verify.judge import Row
from tulle.verify.manifests import MAIN_PORT, Image
from tulle.verify.plan import EVERYWHERE, MAIN, SECOND, Check, Place, plan
from tulle.verify.pods import claimed_addresses
from tulle.verify.statements import TRAFFIC, Family

Progress = Callable[[str, int, int], None]
"""Hears of a stage, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Stage:
    """The Pods that take part, and what is known of the cluster around them."""

    places: list[Place]
    families: tuple[Family, ...]
    status_addresses: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Network:
    """What the Pods found out of each other; ``broken`` says where, by the place in ``outcomes``.

    ``of_nodes``: all addresses by node, ``owners``: whose an address is, in words.
    """

    rows: list[Row]
    reports: judge.Reports
    outcomes: list[judge.Outcome]
    broken: dict[int, str]
    of_nodes: judge.NodeAddresses
    owners: Mapping[str, str]


async def ask_each_other(
    client: Client, namespace: str, stage: Stage, image: Image, timeout: float, progress: Progress
) -> Network:
    """Every check, and then what it all means. ``timeout`` is seconds per check."""
    checks = plan(stage.places, stage.families)
    questions = _questions(checks, stage)
    total = sum(map(len, questions.values()))
    reports = await ask(
        client,
        namespace,
        questions,
        image,
        timeout,
        lambda done: progress("Pods ask each other", done, total),
    )
    claims = claimed_addresses((await client.list(PODS)).items)
    status = frozenset[str]().union(*stage.status_addresses.values())
    of_nodes = _node_addresses(stage, reports)
    outcomes = _outcomes(checks, reports, of_nodes)
    owners = _owners(stage, of_nodes)
    broken = hops.find(outcomes, owners)
    rows = list(judge.own_ips(stage.places, claims, status, reports, stage.families))
    rows += _inside(stage, reports, len(checks))
    rows += [judge.row(result, broken.get(number, "")) for number, result in enumerate(outcomes)]
    return Network(rows, reports, outcomes, broken, of_nodes, owners)


def _node_addresses(stage: Stage, reports: judge.Reports) -> dict[str, frozenset[str]]:
    """What the Node says of itself, and what its host-network Pod finds on the interfaces."""
    addresses = dict(stage.status_addresses)
    for host in filter(attrgetter("host_network"), stage.places):
        on_links = {a for link in reports[host.pod, MAIN].interfaces for a in link.addresses}
        addresses[host.node] = addresses[host.node] | on_links
    return addresses


def _owners(stage: Stage, of_nodes: Mapping[str, frozenset[str]]) -> dict[str, str]:
    owners = {a: str(place) for place in stage.places if not place.host_network for a in place.addresses}
    return owners | {address: node for node, addresses in of_nodes.items() for address in addresses}


def _questions(checks: Sequence[Check], stage: Stage) -> dict[tuple[str, str], list[Question]]:
    """By Pod and container; even one without a check tells its interfaces.

    A check's id is its place in the plan; those of port collisions follow.
    """
    questions: dict[tuple[str, str], list[Question]] = {
        (place.pod, container): [] for place in stage.places for container in place.containers
    }
    for number, check in enumerate(checks):
        traffic = TRAFFIC[check.protocol]
        question = Question(number, traffic.kind, check.address, check.target.port, traffic.size)
        questions[check.source.pod, check.container].append(question)
    for number, (shared, family) in enumerate(_collisions(stage), start=len(checks)):
        taken = Question(number, "bind", EVERYWHERE[family], MAIN_PORT, 0)
        questions[shared.pod, SECOND].append(taken)
    return questions


def _collisions(stage: Stage) -> Iterator[tuple[Place, Family]]:
    for candidate in stage.places:
        if SECOND in candidate.containers:
            for family in stage.families:
                if candidate.address(family):
                    yield candidate, family


def _inside(stage: Stage, reports: judge.Reports, first: int) -> list[Row]:
    """The sentences on the containers of one Pod; ``first`` is the id of the first port collision."""
    rows = [judge.shared(place, reports) for place in stage.places if SECOND in place.containers]
    for number, (shared, family) in enumerate(_collisions(stage), start=first):
        report = reports[shared.pod, SECOND]
        answer = next((answer for answer in report.results if answer.id == number), None)
        rows.append(judge.collision(shared, family, answer, report.failure))
    return rows


def _outcomes(
    checks: Sequence[Check], reports: judge.Reports, of_nodes: judge.NodeAddresses
) -> list[judge.Outcome]:
    answers = {answer.id: answer for report in reports.values() for answer in report.results}
    return [
        judge.outcome(
            check, answers.get(number), reports[check.source.pod, check.container].failure, of_nodes
        )
        for number, check in enumerate(checks)
    ]
