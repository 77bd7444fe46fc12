"""The part of a verification that is about Services and names, when the Pods have asked each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tulle.errors import ApiError
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import ENDPOINT_SLICE, PODS, SERVICE, SERVICES
from tulle.model.services import EndpointSlice
from tulle.verify import name_judge, name_plan, service_hops, service_judge, service_plan
from tulle.verify.cluster import Question, ask
from tulle.verify.findings import Finding
from tulle.verify.judge import Answer, NodeAddresses, Reports, Resolver, Row
from tulle.verify.manifests import Image
from tulle.verify.name_plan import NameCheck
from tulle.verify.paths import Paths
from tulle.verify.plan import MAIN, Place, family_of
from tulle.verify.pods import is_ready
from tulle.verify.service_hops import Evidence
from tulle.verify.service_plan import ServiceCheck
from tulle.verify.services import EXTERNAL, SELECTING, Facts, external, facts, manifests
from tulle.verify.statements import Family

SLICES_SECONDS = 10.0
"""What the controllers of an API may take until they list a Pod that is ready."""

_TIMED = frozenset({"refuse", "name-missing"})


@dataclass(frozen=True)
class Ground:
    """What is known before: the Pods, and what holds between them."""

    namespace: str
    places: Sequence[Place]
    families: Sequence[Family]
    nodes: NodeAddresses
    owners: Mapping[str, str]
    paths: Paths
    resolvers: Mapping[str, Resolver]


async def start_services(client: Client, namespace: str) -> list[Row]:
    """Creates all that need no zone; a row for each that the API refused."""
    rows = []
    for body in manifests():
        try:
            await client.create(SERVICES, body, namespace)
        except ApiError as error:
            rows.append(service_judge.refused(body["metadata"]["name"], str(error)))
    return rows


async def services_and_names(
    client: Client, ground: Ground, image: Image, timeout: float, progress: Callable[[int, int], None]
) -> list[Row]:
    """``timeout`` is seconds per check; ``progress`` hears how many are done, and of how many."""
    namespace = ground.namespace
    zone = next(filter(None, (found.zone(namespace) for found in ground.resolvers.values())), None)
    rows = await _start_external(client, namespace, zone) if zone else []
    known, ready = await _facts(client, ground)
    checks: list[ServiceCheck | NameCheck] = [
        *service_plan.plan(ground.places, ground.families, known),
        *_names(ground, known, zone),
    ]
    questions = _questions(checks, ground.places)
    total = sum(map(len, questions.values()))
    reports = await ask(client, namespace, questions, image, timeout, lambda done: progress(done, total))
    found = _found(checks, reports, ground)
    who = {place.pod: str(place) for place in ground.places}
    broken = service_hops.find(found, Evidence(known, ground.paths, ground.owners, who))
    rows += service_judge.listed(known, ready, ground.families)
    return rows + [finding.row(hop) for finding, hop in zip(found, broken, strict=True)]


async def _start_external(client: Client, namespace: str, zone: str) -> list[Row]:
    try:
        await client.create(SERVICES, external(name_plan.external_target(namespace, zone)), namespace)
    except ApiError as error:
        return [service_judge.refused(EXTERNAL, str(error))]
    return []


async def _facts(client: Client, ground: Ground) -> tuple[Facts, list[Place]]:
    """What the API lists, and which Pods are ready: once both agree on verify's, or have had their time."""
    slices: Informer[EndpointSlice] = Informer(client, ENDPOINT_SLICE, namespace=ground.namespace)
    pods = Informer(client, PODS, namespace=ground.namespace)
    services = (await client.list(SERVICE, ground.namespace)).items
    changed = asyncio.Event()
    slices.subscribe(lambda change: changed.set())
    pods.subscribe(lambda change: changed.set())

    def now() -> tuple[Facts, list[Place]]:
        ready = {name for (_, name), found in pods.objects.items() if is_ready(found)}
        inside = [place for place in ground.places if not place.host_network]
        return facts(services, slices.objects.values()), [p for p in inside if p.pod in ready]

    async def until_agreed() -> None:
        while not _agree(*now(), ground.places):
            await changed.wait()
            changed.clear()

    following = [asyncio.create_task(each.run(), name="verify: watch endpoints") for each in (slices, pods)]
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SLICES_SECONDS):
                await until_agreed()
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    return now()


def _agree(known: Facts, ready: Sequence[Place], places: Sequence[Place]) -> bool:
    """Each Service lists just those of verify's Pods that are ready; what else it lists is judged later."""
    own = {address for place in places for address in place.addresses if not place.host_network}
    wanted = {address for place in ready for address in place.addresses}
    for name in known.addresses.keys() & set(SELECTING):
        listed = {each.address for each in known.endpoints.get(name, ())}
        families = {family_of(address) for address in listed} | known.addresses[name].keys()
        needed = {address for address in wanted if family_of(address) in families}
        if needed != listed & own or (wanted and not families):
            return False
    return bool(ready)


def _names(ground: Ground, known: Facts, zone: str | None) -> list[NameCheck]:
    if zone is None:
        return []
    records = name_plan.records(known, ground.families, ground.namespace, zone)
    asking = [place for place in ground.places if ground.resolvers[place.pod].zone(ground.namespace)]
    return name_plan.plan(asking, ground.families, ground.resolvers, records)


def _questions(
    checks: Sequence[ServiceCheck | NameCheck], places: Sequence[Place]
) -> dict[tuple[str, str], list[Question]]:
    """By Pod and container; a check's id is its place in the plan."""
    questions: dict[tuple[str, str], list[Question]] = {(place.pod, MAIN): [] for place in places}
    for number, check in enumerate(checks):
        if isinstance(check, ServiceCheck):
            questions[check.source.pod, MAIN].append(_of_service(number, check))
        else:
            questions[check.source.pod, MAIN].append(_of_name(number, check))
    return questions


def _of_service(number: int, check: ServiceCheck) -> Question:
    return Question(
        id=number,
        kind="refuse" if check.purpose == "refuse" else "reach",
        address=check.address,
        port=check.port,
        transport=check.transport,
        wanted=sorted(check.wanted),
        tries=check.tries,
        timed=check.purpose in _TIMED,
    )


def _of_name(number: int, check: NameCheck) -> Question:
    return Question(
        id=number,
        kind="query" if check.server else "library",
        address=check.server,
        port=name_plan.DNS_PORT,
        transport=check.transport,
        name=check.record.name,
        type=check.record.type,
        timed=check.record.statement in _TIMED,
    )


def _found(checks: Sequence[ServiceCheck | NameCheck], reports: Reports, ground: Ground) -> list[Finding]:
    answers: dict[int, Answer] = {a.id: a for report in reports.values() for a in report.results}
    who = {place.pod: str(place) for place in ground.places}
    found: list[Finding] = []
    for number, check in enumerate(checks):
        answer, failure = answers.get(number), reports[check.source.pod, MAIN].failure
        if isinstance(check, ServiceCheck):
            found += service_judge.findings(check, answer, failure, ground.nodes, who)
        else:
            found.append(name_judge.finding(check, answer, failure))
    for place in ground.places:
        resolver = ground.resolvers[place.pod]
        if not resolver.zone(ground.namespace) or not resolver.servers:
            seen = f"search {' '.join(resolver.search)}, nameserver {' '.join(resolver.servers)}"
            found.append(name_judge.without_zone(place, seen))
    return found
