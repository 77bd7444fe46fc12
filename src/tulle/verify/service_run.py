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
from tulle.verify import (
    external_judge,
    external_plan,
    external_run,
    name_judge,
    name_plan,
    outside,
    service_hops,
    service_judge,
    service_plan,
)
from tulle.verify.cluster import Question, ask
from tulle.verify.external import OPENED
from tulle.verify.external_plan import ExternalCheck
from tulle.verify.external_run import Outside
from tulle.verify.findings import Finding
from tulle.verify.judge import Answer, NodeAddresses, Reports, Resolver, Row
from tulle.verify.manifests import Image
from tulle.verify.name_plan import NameCheck
from tulle.verify.paths import Paths
from tulle.verify.plan import MAIN, OUTSIDE, Place, family_of
from tulle.verify.pods import is_ready
from tulle.verify.service_hops import Evidence
from tulle.verify.service_plan import ServiceCheck
from tulle.verify.services import EXTERNAL, SELECTING, Facts, external, facts
from tulle.verify.statements import Family

SLICES_SECONDS = 10.0
"""What the controllers of an API may take until they list a Pod that is ready."""

_TIMED = frozenset({"refuse", "silent", "name-missing"})
_KINDS = frozenset({"refuse", "silent", "health"})
"""The purposes that the probe knows; all others are reached in its eyes."""

Check = ServiceCheck | ExternalCheck | NameCheck


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
    outside: Outside


async def services_and_names(
    client: Client, ground: Ground, image: Image, timeout: float, progress: Callable[[int, int], None]
) -> tuple[list[Row], list[str]]:
    """Also notes. ``timeout`` is seconds per check; ``progress`` hears how many are done, and of how many."""
    namespace = ground.namespace
    zone = next(filter(None, (found.zone(namespace) for found in ground.resolvers.values())), None)
    rows = await _start_external(client, namespace, zone) if zone else []
    known, ready = await _facts(client, ground)
    outer = await external_run.ground(
        client, namespace, ground.places, ground.families, known, ground.outside
    )
    checks: list[Check] = [
        *service_plan.plan(ground.places, ground.families, known),
        *external_plan.plan(outer),
        *_names(ground, known, zone),
    ]
    reports = await _ask(client, ground, _questions(checks, ground.places), image, timeout, progress)
    answers: dict[int, Answer] = {a.id: a for report in reports.values() for a in report.results}
    found = _found(checks, answers, reports, ground)
    who = {place.pod: str(place) for place in ground.places}
    broken = service_hops.find(found, Evidence(known, ground.paths, ground.owners, who))
    rows += service_judge.listed(known, ready, ground.families)
    pairs = [(c, answers.get(n)) for n, c in enumerate(checks) if isinstance(c, ExternalCheck)]
    notes = external_run.notes(outer, pairs, ground.nodes)
    return rows + [finding.row(hop) for finding, hop in zip(found, broken, strict=True)], notes


async def _ask(
    client: Client,
    ground: Ground,
    questions: dict[tuple[str, str], list[Question]],
    image: Image,
    timeout: float,
    progress: Callable[[int, int], None],
) -> Reports:
    """The Pods, and at the same time whoever is outside."""
    total = sum(map(len, questions.values()))
    own = questions.pop((OUTSIDE, MAIN), [])
    inside = ask(client, ground.namespace, questions, image, timeout, lambda done: progress(done, total))
    if not own:
        return await inside
    reports, report = await asyncio.gather(inside, outside.ask(ground.outside.command, own, timeout))
    return reports | {(OUTSIDE, MAIN): report}


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
    for name in known.addresses.keys() & {*SELECTING, *OPENED}:
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


def _questions(checks: Sequence[Check], places: Sequence[Place]) -> dict[tuple[str, str], list[Question]]:
    """By Pod and container; a check's id is its place in the plan."""
    questions: dict[tuple[str, str], list[Question]] = {(place.pod, MAIN): [] for place in places}
    for number, check in enumerate(checks):
        question = _of_name(number, check) if isinstance(check, NameCheck) else _of_service(number, check)
        questions.setdefault((check.source.pod, MAIN), []).append(question)
    return questions


def _of_service(number: int, check: ServiceCheck | ExternalCheck) -> Question:
    each = isinstance(check, ServiceCheck) or check.every
    return Question(
        id=number,
        kind=check.purpose if check.purpose in _KINDS else "reach",
        address=check.address,
        port=check.port,
        transport=check.transport,
        wanted=sorted(check.wanted) if each else (),
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


def _found(
    checks: Sequence[Check], answers: Mapping[int, Answer], reports: Reports, ground: Ground
) -> list[Finding]:
    who = {place.pod: str(place) for place in ground.places}
    found: list[Finding] = []
    for number, check in enumerate(checks):
        answer, failure = answers.get(number), reports[check.source.pod, MAIN].failure
        if isinstance(check, ServiceCheck):
            found += service_judge.findings(check, answer, failure, ground.nodes, who)
        elif isinstance(check, ExternalCheck):
            found += external_judge.findings(check, answer, failure, ground.nodes, who)
        else:
            found.append(name_judge.finding(check, answer, failure))
    for place in ground.places:
        resolver = ground.resolvers[place.pod]
        if not resolver.zone(ground.namespace) or not resolver.servers:
            seen = f"search {' '.join(resolver.search)}, nameserver {' '.join(resolver.servers)}"
            found.append(name_judge.without_zone(place, seen))
    return found
