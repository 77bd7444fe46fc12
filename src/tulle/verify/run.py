"""A whole verification, from the first list of Nodes to the rows."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from tulle.errors import ConfigError
from tulle.kube.client import Client
from tulle.kube.resources import NODES, PODS
from tulle.verify import external, external_run, hops, judge, services
from tulle.verify import outside as outside_client
from tulle.verify.cluster import Question, ask, own_namespace, settled_pods, start_pods
from tulle.verify.external_run import Outside
from tulle.verify.judge import Row
from tulle.verify.manifests import MAIN_PORT, Image, Wanted, choose_image, lab_of, wanted
from tulle.verify.paths import Paths
from tulle.verify.plan import EVERYWHERE, MAIN, SECOND, Check, Place, families_of, plan
from tulle.verify.pods import (
    Pod,
    claimed_addresses,
    is_running,
    node_addresses,
    node_is_ready,
    place,
    problem,
)
from tulle.verify.service_run import Ground, services_and_names
from tulle.verify.statements import TRAFFIC, Family

HOST_PORTS = range(20_000, 30_000)
"""Below the ports that kernels give out and that NodePorts take by default."""

Progress = Callable[[str, int, int], None]
"""Hears of a stage, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Options:
    """``families`` None: those that any Pod has. Times in seconds; ``timeout`` for the Pods to be Ready.

    ``outside`` is a command that runs the probe on a machine outside the cluster; ``worlds`` tells that of a
    lab, by its name.
    """

    families: tuple[Family, ...] | None = None
    timeout: float = 60.0
    check_timeout: float = 3.0
    image: str | None = None
    keep: bool = False
    outside: Sequence[str] = ()
    worlds: Callable[[str], Sequence[str]] | None = None


@dataclass(frozen=True)
class Verdict:
    """``notes`` say what could not be judged, ``namespace`` where the Pods are if they were kept."""

    rows: list[Row]
    notes: list[str]
    namespace: str

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.ok for row in self.rows)


@dataclass(frozen=True)
class Stage:
    """The Pods that take part, and what is known of the cluster around them."""

    places: list[Place]
    families: tuple[Family, ...]
    status_addresses: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Network:
    """What the Pods found out of each other; ``broken`` says where, by the place in ``outcomes``."""

    rows: list[Row]
    reports: judge.Reports
    outcomes: list[judge.Outcome]
    broken: dict[int, str]
    of_nodes: judge.NodeAddresses


async def verify(client: Client, options: Options, progress: Progress) -> Verdict:
    """Raises :class:`ConfigError` if there is no node to test, and the errors of :class:`Client`."""
    nodes = (await client.list(NODES)).items
    ready = [node for node in nodes if node_is_ready(node)]
    notes = [
        f"node {node['metadata']['name']} is not Ready and is left out" for node in nodes if node not in ready
    ]
    if not ready:
        raise ConfigError(f"none of the cluster's {len(nodes)} nodes is Ready; verify needs at least one")
    image = choose_image(options.image, ready)
    names = [node["metadata"]["name"] for node in ready]
    own_port, host_port = secrets.SystemRandom().sample(HOST_PORTS, 2)
    wants = wanted(names, own_port, host_port)
    clients = await clients_of(options, lab_of(ready), notes)
    async with own_namespace(client, options.keep) as namespace:
        everything = [*services.manifests(), *external.manifests(bool(clients.places))]
        refused, unjudged = await external_run.start(client, namespace, everything)
        pods, rows = await _pods(client, namespace, wants, image, options, progress)
        places = [place(want, pods[want.pod]) for want in wants if is_running(pods.get(want.pod, {}))]
        entries = external_run.entries(ready)
        first, allowed, ranges = external_run.about(places, entries)
        more = external.manifests_about(first, ranges) if first else []
        late = await external_run.start(client, namespace, more)
        outside = Outside(clients.command, clients.places, entries, host_port, first, allowed)
        stage = Stage(
            places,
            options.families or families_of(places),
            {node["metadata"]["name"]: node_addresses(node) for node in ready},
        )
        network = await _network(client, namespace, stage, image, options, progress)
        ground = _ground(namespace, stage, network, outside)
        rows += network.rows + refused + late[0]
        found, said = await services_and_names(
            client, ground, image, options.check_timeout, partial(progress, "Pods ask for Services and names")
        )
    return Verdict(rows + found, notes + unjudged + late[1] + said, namespace)


@dataclass(frozen=True)
class Clients:
    """Who is outside: one place, or none; ``command`` runs the probe there."""

    command: Sequence[str] = ()
    places: Sequence[Place] = ()


async def clients_of(options: Options, lab: str, notes: list[str]) -> Clients:
    """Raises :class:`ConfigError` if a client that the user named cannot be asked."""
    command = options.outside or (options.worlds(lab) if lab and options.worlds else ())
    if not command:
        return Clients()
    report = await outside_client.ask(command, (), options.check_timeout)
    if not report.failure:
        return Clients(command, [outside_client.place(report)])
    if options.outside:
        raise ConfigError(f"--outside {shlex.join(command)!r} does not run the probe: {report.failure}")
    notes.append(f"the lab's world cannot be asked: {report.failure}")
    return Clients()


async def _pods(
    client: Client,
    namespace: str,
    wants: Sequence[Wanted],
    image: Image,
    options: Options,
    progress: Progress,
) -> tuple[dict[str, Pod], list[Row]]:
    """The Pods, and a row for each on whether it became Ready."""
    refused = await start_pods(client, namespace, wants, image)
    expected = [want.pod for want in wants if want.pod not in refused]
    pods = await settled_pods(
        client,
        namespace,
        expected,
        options.timeout,
        lambda done: progress("Pods become Ready", done, len(expected)),
    )
    rows = []
    for want in wants:
        shown = place(want, pods.get(want.pod, {}))
        rows.append(judge.readiness(shown, refused.get(want.pod) or problem(pods.get(want.pod))))
    return pods, rows


async def _network(
    client: Client, namespace: str, stage: Stage, image: Image, options: Options, progress: Progress
) -> Network:
    """Every check, and then what it all means."""
    checks = plan(stage.places, stage.families)
    questions = _questions(checks, stage)
    total = sum(map(len, questions.values()))
    reports = await ask(
        client,
        namespace,
        questions,
        image,
        options.check_timeout,
        lambda done: progress("Pods ask each other", done, total),
    )
    claims = claimed_addresses((await client.list(PODS)).items)
    status = frozenset[str]().union(*stage.status_addresses.values())
    of_nodes = _node_addresses(stage, reports)
    outcomes = _outcomes(checks, reports, of_nodes)
    broken = hops.find(outcomes, _owners(stage, of_nodes))
    rows = list(judge.own_ips(stage.places, claims, status, reports, stage.families))
    rows += _inside(stage, reports, len(checks))
    rows += [judge.row(result, broken.get(number, "")) for number, result in enumerate(outcomes)]
    return Network(rows, reports, outcomes, broken, of_nodes)


def _ground(namespace: str, stage: Stage, network: Network, outside: Outside) -> Ground:
    """What the checks of Services and names are judged by."""
    return Ground(
        namespace=namespace,
        places=stage.places,
        families=stage.families,
        nodes=network.of_nodes,
        owners=_owners(stage, network.of_nodes),
        paths=Paths(network.outcomes, network.broken),
        resolvers={place.pod: network.reports[place.pod, MAIN].resolver for place in stage.places},
        outside=outside,
    )


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
