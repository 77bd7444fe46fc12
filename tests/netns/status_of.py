"""``tulle status`` on a node, as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from nodes import Node


def run_status(node: Node, *flags: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "kubeconfig": node.folder.parent / "kubeconfig",
        "node-name": node.name,
        "state-dir": node.folder / "state",
        "run-dir": node.folder / "run",
        "bpffs": node.bpffs,
    }
    command = [sys.executable, "-m", "tulle", "status", *(f"--{n}={v}" for n, v in settings.items()), *flags]
    return node.run(*command, check=False)


def status(node: Node, *flags: str, code: int = 0) -> str:
    """What it prints, and what it says of a failure."""
    done = run_status(node, *flags)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def shown(node: Node, *flags: str, code: int = 0, whole: bool = False) -> dict[str, Any]:
    """What it says of Services, or the ``whole``."""
    found: dict[str, Any] = json.loads(status(node, "-o", "json", *flags, code=code))
    return found if whole else found.get("services", found)


def by_frontend(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {frontend: port for port in found["ports"] for frontend in port["frontends"]}
