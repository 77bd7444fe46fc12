"""A whole cluster from nothing: three nodes, then thirty Pods, until all are Ready."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import nodes
from bench.statistics import Figure
from tulle.errors import LabError
from tulle.kube.client import Client
from tulle.kube.config import load_kubeconfig
from tulle.kube.resources import DEPLOYMENTS

_NODES, _PODS = 3, 30
_NAME = "bench"
_PATIENCE = 120.0  # seconds


def measure(folder: Path, rounds: int, tick: Callable[[str], None]) -> list[Figure]:
    """Each round brings a lab up and takes it down; *ready* counts from the command's start."""
    up, ready, down, resident, proportional = [], [], [], [], []
    try:
        for number in range(rounds):
            tick(f"round {number + 1} of {rounds}")
            begin = time.perf_counter()
            _tulle("up", f"--nodes={_NODES}")
            up.append(time.perf_counter() - begin)
            asyncio.run(_run_pods(Path(_tulle("kubeconfig").strip())))
            ready.append(time.perf_counter() - begin)
            sizes = [nodes.memory(pid) for pid in _agents()]
            resident.append(max(rss for rss, _ in sizes))
            proportional.append(max(pss for _, pss in sizes))
            begin = time.perf_counter()
            _tulle("down")
            down.append(time.perf_counter() - begin)
    finally:
        _tulle("down")
    return [
        Figure(
            "lab", f"{_NODES} nodes and {_PODS} Pods, from nothing to Ready", "s", tuple(ready), 10, "lower"
        ),
        Figure("lab", f"of it, {_NODES} nodes", "s", tuple(up)),
        Figure("lab", "down again", "s", tuple(down)),
        Figure("lab", "agent at rest, resident", "MB", tuple(resident), 60, "lower"),
        Figure("lab", "agent at rest, proportional", "MB", tuple(proportional)),
    ]


def _tulle(command: str, *options: str) -> str:
    line = [sys.executable, "-m", "tulle", "lab", command, f"--name={_NAME}", *options]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    if done.returncode:
        raise LabError(f"tulle lab {command}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _agents() -> Sequence[int]:
    """The process ids of the lab's agents."""
    overview = msgspec.json.decode(_tulle("status", "--output=json"))
    processes = [process for node in overview["nodes"] for process in node["processes"]]
    return [process["pid"] for process in processes if process["what"] == "agent"]


async def _run_pods(kubeconfig: Path) -> None:
    """Returns when the API says that all replicas are ready."""
    async with Client(load_kubeconfig(kubeconfig)) as client, asyncio.timeout(_PATIENCE):
        made = await client.create(DEPLOYMENTS, _deployment(), "default")
        version = made["metadata"]["resourceVersion"]
        async for event in client.watch(DEPLOYMENTS, version, namespace="default"):
            status = (event.item.value or {}).get("status", {})
            if status.get("readyReplicas") == _PODS:
                return
    raise LabError("the API server ended the watch before all Pods were Ready")


def _deployment() -> dict[str, Any]:
    labels = {"app": "bench"}
    containers = [{"name": "main", "image": "host", "command": ["sleep", "infinity"]}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "bench"},
        "spec": {
            "replicas": _PODS,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": containers, "terminationGracePeriodSeconds": 1},
            },
        },
    }
