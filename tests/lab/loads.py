"""``tests/ends.py`` in Pods and on the lab's *world*: command lines, and processes that speak by lines."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from livelab import PATIENCE, Cluster, Pods, run
from tests import ends

from tulle.kube.client import Client
from tulle.kube.resources import CONFIGMAPS

ENDS = ("python3", "/ends/ends.py")
MOUNT = {
    "volumeMounts": [{"name": "ends", "mountPath": "/ends"}],
    "volumes": [{"name": "ends", "configMap": {"name": "ends"}}],
}
"""Pods need not see the folder of these tests: they get what they run from a ConfigMap."""
SOURCE = Path(__file__).parents[1] / "ends.py"


async def offer_ends(client: Client, namespace: str) -> None:
    """The ConfigMap that Pods mount."""
    body = {"metadata": {"name": "ends"}, "data": {"ends.py": SOURCE.read_text()}}
    await client.create(CONFIGMAPS, body, namespace)


def in_pod(pods: Pods, pod: str, *words: str) -> list[str]:
    """The command line that runs ``ends.py WORDS`` there, with an input."""
    return ["kubectl", "exec", "-i", "-n", pods.namespace, pod, "--", *ENDS, *words]


def on_host(lab: Cluster, host: str, *words: str) -> list[str]:
    """The same on *world*; on a node it is in the network, but not in the cgroup."""
    return ["nsenter", f"--net={lab.paths.netns(host)}", sys.executable, str(SOURCE), *words]


async def ask(
    lab: Cluster,
    how: str,
    address: str,
    port: int,
    times: int = 1,
    size: int = 64,
    patience: float = ends.PATIENCE,
) -> list[Any]:
    """What *world* saw: a dictionary for each request."""
    line = on_host(lab, "world", "ask", how, address, *map(str, (port, times, size, patience)))
    done = await asyncio.to_thread(run, line)
    return [json.loads(line) for line in done.stdout.splitlines()]


def who(answers: list[Any]) -> list[str]:
    """Who answered, or why nobody did."""
    return [answer.get("name") or answer["error"] for answer in answers]


@contextmanager
def speaking(lab: Cluster, line: list[str], first: str) -> Iterator[Callable[[str], str]]:
    """A process that has said ``first``: each call writes a line to it, and returns one that it says."""
    environment = os.environ | {"KUBECONFIG": str(lab.paths.kubeconfig)}
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as running:
        assert running.stdout and running.stdin
        stdin, stdout = running.stdin, running.stdout

        def say(words: str = "?") -> str:
            stdin.write(f"{words}\n")
            stdin.flush()
            return stdout.readline().strip()

        try:
            assert stdout.readline() == f"{first}\n"
            yield say
        finally:
            running.kill()


async def until(ask: Callable[[], str], wanted: str) -> None:
    """Asks again and again."""
    said = ""
    try:
        async with asyncio.timeout(PATIENCE):
            while said != wanted:
                said = await asyncio.to_thread(ask)
    except TimeoutError:
        raise AssertionError(f"{wanted} was wanted, but {said or 'nothing'} is said") from None


@contextmanager
def load(lab: Cluster, line: list[str]) -> Iterator[list[dict[str, Any]]]:
    """``ends.py load`` within the block; the list has the result after it."""
    result: list[dict[str, Any]] = []
    with speaking(lab, line, "begun") as say:
        yield result
        result.append(json.loads(say("enough")))
