"""The cluster's side of a verification: a namespace with Pods, and the probe run in them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

import msgspec

from tulle.errors import ApiError, ApiUnreachable, Forbidden, NotFound
from tulle.kube.backoff import Backoff
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import NAMESPACES, PODS
from tulle.verify.judge import Report
from tulle.verify.manifests import Image, Wanted, namespace, pod
from tulle.verify.pods import Pod, is_settled
from tulle.verify.probe.client import AT_ONCE

EXECS_AT_ONCE = 16
ACCOUNT_SECONDS = 10.0
EXEC_SECONDS = 30.0
"""What an exec may take on top of its checks: starting Python on a busy node."""


@contextlib.asynccontextmanager
async def own_namespace(client: Client, keep: bool) -> AsyncIterator[str]:
    """A namespace that is deleted at the end, also when cancelled; unless ``keep``."""
    name = f"tulle-verify-{secrets.token_hex(3)}"
    await client.create(NAMESPACES, namespace(name))
    try:
        yield name
    finally:
        if not keep:
            with contextlib.suppress(NotFound):
                await client.delete(NAMESPACES, name, propagation="Background")


async def start_pods(client: Client, name: str, pods: Iterable[Wanted], image: Image) -> dict[str, str]:
    """Creates all; what the API refused comes back as an error by Pod."""
    refused: dict[str, str] = {}
    for want in pods:
        try:
            await _create(client, name, pod(want, image))
        except ApiError as error:
            refused[want.pod] = str(error)
    return refused


async def _create(client: Client, name: str, manifest: Pod) -> None:
    """Again for a while, as a new namespace refuses Pods until a controller gave it its service account."""
    backoff = Backoff(base=0.1, cap=1.0)
    deadline = time.monotonic() + ACCOUNT_SECONDS
    while True:
        try:
            await client.create(PODS, manifest, name)
            return
        except Forbidden as error:
            if "serviceaccount" not in str(error) or time.monotonic() > deadline:
                raise
        await asyncio.sleep(backoff.next())


async def settled_pods(
    client: Client,
    name: str,
    expected: Sequence[str],
    timeout: float,
    progress: Callable[[int], None],
) -> dict[str, Pod]:
    """The Pods by name, once all ``expected`` are settled or ``timeout`` seconds are over.

    ``progress`` hears how many are settled.
    """
    informer = Informer(client, PODS, namespace=name)
    changed = asyncio.Event()
    informer.subscribe(lambda change: changed.set())

    async def until_settled() -> None:
        while True:
            known = _by_name(informer.objects)
            count = sum(is_settled(known.get(pod_name)) for pod_name in expected)
            progress(count)
            if count == len(expected):
                return
            await changed.wait()
            changed.clear()

    follow = asyncio.create_task(informer.run(), name="verify: watch Pods")
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await until_settled()
    finally:
        follow.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follow
    return _by_name(informer.objects)


def _by_name(objects: Mapping[tuple[str, str], Pod]) -> dict[str, Pod]:
    return {pod_name: value for (_, pod_name), value in objects.items()}


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """One check as ``probe check`` takes it; which fields it needs depends on its kind.

    ``timed`` is what is judged by the time it takes.
    """

    id: int
    kind: str
    address: str = ""
    port: int = 0
    size: int = 0
    transport: str = ""
    wanted: Sequence[str] = ()
    tries: int = 0
    name: str = ""
    type: str = ""
    timed: bool = False


class _Questions(msgspec.Struct, frozen=True):
    timeout: float
    checks: Sequence[Question]


async def ask(
    client: Client,
    name: str,
    questions: Mapping[tuple[str, str], Sequence[Question]],
    image: Image,
    timeout: float,
    progress: Callable[[int], None],
) -> dict[tuple[str, str], Report]:
    """Runs the probe once in each container; ``progress`` hears how many checks are done.

    ``timeout`` is seconds per check. A container in which that fails has a report that says why.
    """
    slots = asyncio.Semaphore(EXECS_AT_ONCE)
    reports: dict[tuple[str, str], Report] = {}
    done = 0

    async def one(place: tuple[str, str], checks: Sequence[Question]) -> None:
        nonlocal done
        async with slots:
            reports[place] = await _ask_one(client, name, place, checks, image, timeout)
        done += len(checks)
        progress(done)

    async with asyncio.TaskGroup() as group:
        for place, checks in questions.items():
            group.create_task(one(place, checks), name=f"verify: {'/'.join(place)}")
    return reports


async def _ask_one(
    client: Client,
    name: str,
    place: tuple[str, str],
    checks: Sequence[Question],
    image: Image,
    timeout: float,
) -> Report:
    pod_name, container = place
    seconds = patience(len(checks), timeout)
    line = asked(checks, timeout)
    try:
        result = await client.exec(name, pod_name, image.probe("check"), container, line, timeout=seconds)
    except (ApiError, ApiUnreachable) as error:
        return Report(failure=f"exec failed: {error}")
    return reported(result.stdout, result.stderr, result.exit_code)


def patience(checks: int, timeout: float) -> float:
    """Seconds in which a probe must have carried out so many checks of ``timeout`` seconds each."""
    return EXEC_SECONDS + timeout * (checks // AT_ONCE + 1)


def asked(checks: Sequence[Question], timeout: float) -> bytes:
    """What ``probe check`` reads."""
    return msgspec.json.encode(_Questions(timeout, checks)) + b"\n"


def reported(stdout: bytes, stderr: bytes, exit_code: int) -> Report:
    """What it has written, or a report that says why that is none."""
    try:
        return msgspec.json.decode(stdout, type=Report)
    except msgspec.MsgspecError:
        output = (stderr or stdout).decode(errors="replace").strip()
        last = output.splitlines()[-1] if output else "no output"
        return Report(failure=f"the probe ended with exit code {exit_code}: {last}")
