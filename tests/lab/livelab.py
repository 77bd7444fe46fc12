"""Whole clusters for tests, gone without a trace at the end, and Pods in them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import EVENTS, PODS
from tulle.lab import processes
from tulle.lab.paths import Paths
from tulle.lab.up import Lab, opened

Object = dict[str, Any]
TULLE = (sys.executable, "-m", "tulle")
PATIENCE = 90.0
NODES = 2


class Cluster:
    """A lab that is up. ``kubectl`` is the real one, ``tulle`` the command line as a user has it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def lab(self) -> Lab:
        return opened(self.name)

    @property
    def paths(self) -> Paths:
        return Paths(self.name)

    def tulle(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``tulle lab WORDS``; the lab's name goes behind the subcommand."""
        return tulle_lab(words[0], f"--name={self.name}", *words[1:], check=check)

    def kubectl(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"KUBECONFIG": str(self.paths.kubeconfig)}
        return run(["kubectl", *words], stdin=stdin, check=check, env=environment)

    def process(self, host: str, what: str) -> processes.Process:
        """A process of the lab, as it was recorded when it was started."""
        return next(p for p in processes.recorded(self.paths) if (p.host, p.what) == (host, what))


def run(
    line: list[str], stdin: str = "", check: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        line, input=stdin, capture_output=True, text=True, check=False, timeout=2 * PATIENCE, env=env
    )
    assert not check or done.returncode == 0, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def tulle_lab(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run([*TULLE, "lab", *words], check=check)


def leftovers(name: str) -> list[str]:
    """Whatever is still on the machine of the lab of that name."""
    paths = Paths(name)
    found = [str(path) for path in (paths.run, paths.cgroup) if path.exists()]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if f"{paths.run}/" in line or line.split()[4] == str(paths.run)]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{paths.run}/".encode() in command:
            found.append(f"process {folder.name}: {command!r}")
    return found


@contextmanager
def cluster(**settings: object) -> Iterator[Cluster]:
    """A lab of its own; ``settings`` are flags of ``tulle lab up``."""
    name = f"t-{token_hex(4)}"
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    try:
        tulle_lab("up", f"--name={name}", *flags)
        yield Cluster(name)
    finally:
        tulle_lab("down", f"--name={name}")
    assert leftovers(name) == []


class Pods:
    """Pods of one test, in a namespace of its own. ``until`` follows a watch: nothing is polled."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace

    async def create(self, name: str, *command: str, **spec: Any) -> Object:
        """A Pod with the container ``main``; a key of ``spec`` that a container has is the container's."""
        of_container = {key: spec.pop(key) for key in list(spec) if key in CONTAINER_FIELDS}
        marks = {key: spec.pop(key, {}) for key in ("labels", "annotations")}
        main = {"name": "main", "image": "host", "command": list(command), **of_container}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **marks, "labels": {"app": name, **marks["labels"]}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [main], **spec},
        }
        return await self.client.create(PODS, body, self.namespace)

    async def until(self, name: str, wanted: Callable[[Object | None], object]) -> Object | None:
        """The Pod as it was when ``wanted`` first said yes to it; None stands for one that is gone.

        Each version is looked at, also one that was followed by another at once.
        """
        key = (self.namespace, name)
        versions: asyncio.Queue[Object | None] = asyncio.Queue()
        pods = Informer(self.client, PODS, namespace=self.namespace)
        pods.subscribe(lambda change: versions.put_nowait(change.new) if change.key == key else None)
        following = asyncio.create_task(pods.run())
        try:
            async with asyncio.timeout(PATIENCE):
                await pods.synced.wait()
                if versions.empty():
                    versions.put_nowait(None)
                while not wanted(pod := await versions.get()):
                    pass
        except TimeoutError:
            now = json.dumps(pods.objects.get(key), indent=1)
            pytest.fail(f"{name} never became what was wanted; it is {now}\n{await self.events(name)}")
        finally:
            following.cancel()
        return pod

    async def ready(self, name: str) -> Object:
        found = await self.until(name, is_ready)
        assert found is not None
        return found

    async def delete(self, name: str, grace: int | None = None) -> None:
        await self.client.delete(PODS, name, self.namespace, grace_period_seconds=grace)

    async def gone(self, name: str) -> None:
        await self.until(name, lambda pod: pod is None)

    async def events(self, name: str) -> list[str]:
        """``reason: message`` of the Pod's events."""
        selector = f"involvedObject.name={name}"
        found = await self.client.list(EVENTS, self.namespace, field_selector=selector)
        return [f"{event['reason']}: {event['message']}" for event in found.items]

    async def event(self, name: str, reason: str) -> str:
        """The message of the Pod's first event for that reason, once there is one."""
        messages: asyncio.Queue[str] = asyncio.Queue()
        selector = f"involvedObject.name={name},reason={reason}"
        events = Informer(self.client, EVENTS, namespace=self.namespace, field_selector=selector)
        events.subscribe(lambda change: messages.put_nowait(change.new["message"]) if change.new else None)
        following = asyncio.create_task(events.run())
        try:
            async with asyncio.timeout(PATIENCE):
                return await messages.get()
        except TimeoutError:
            pytest.fail(f"{name} has no event {reason}; it has {await self.events(name)}")
        finally:
            following.cancel()

    async def run(self, name: str, *command: str, container: str | None = None) -> str:
        """What the command wrote; it must succeed."""
        result = await self.client.exec(self.namespace, name, command, container)
        assert result.exit_code == 0, (result.stdout, result.stderr)
        return result.stdout.decode()


CONTAINER_FIELDS = frozenset(
    ("image", "args", "env", "ports", "lifecycle", "securityContext", "volumeMounts", "workingDir")
).union(f"{probe}Probe" for probe in ("readiness", "liveness", "startup"))


def is_ready(pod: Object | None) -> bool:
    conditions = (pod or {}).get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def container_status(pod: Object | None, name: str = "main") -> Object:
    """Of a main or an init container; empty when there is none yet."""
    status = (pod or {}).get("status", {})
    every = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    return next((each for each in every if each["name"] == name), {})


def waits_for(reason: str) -> Callable[[Object | None], bool]:
    return lambda pod: container_status(pod).get("state", {}).get("waiting", {}).get("reason") == reason


def has_phase(phase: str) -> Callable[[Object | None], bool]:
    return lambda pod: (pod or {}).get("status", {}).get("phase") == phase
