"""A whole verification, from the first list of Nodes to the rows."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tulle.errors import ConfigError
from tulle.kube.client import Client
from tulle.kube.resources import NODES
from tulle.verify import external, external_run, judge, services
from tulle.verify import outside as outside_client
from tulle.verify.cluster import own_namespace, settled_pods, start_pods
from tulle.verify.external_run import Outside
from tulle.verify.judge import Row
from tulle.verify.manifests import Image, Wanted, choose_image, lab_of, wanted
from tulle.verify.network import Network, Progress, Stage, ask_each_other
from tulle.verify.paths import Paths
from tulle.verify.plan import MAIN, Place, families_of
from tulle.verify.pods import (
    Pod,
    is_running,
    node_addresses,
    node_is_ready,
    place,
    problem,
)
from tulle.verify.service_run import Ground, services_and_names
from tulle.verify.statements import Family

HOST_PORTS = range(20_000, 30_000)
"""Below the ports that kernels give out and that NodePorts take by default."""


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
        network = await ask_each_other(client, namespace, stage, image, options.check_timeout, progress)
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


def _ground(namespace: str, stage: Stage, network: Network, outside: Outside) -> Ground:
    """What the checks of Services and names are judged by."""
    return Ground(
        namespace=namespace,
        places=stage.places,
        families=stage.families,
        nodes=network.of_nodes,
        owners=network.owners,
        paths=Paths(network.outcomes, network.broken),
        resolvers={place.pod: network.reports[place.pod, MAIN].resolver for place in stage.places},
        outside=outside,
    )
