"""Calls of the CNI plugin as a container runtime makes them, timed from its start to its end."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tulle
from tulle.errors import LabError

PLUGIN = Path(tulle.__file__).parent / "_native" / "tulle-cni"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a call is about: a network namespace and the name of what lives in it."""

    name: str
    netns: Path


def call(socket: Path, command: str, sandbox: Sandbox | None = None) -> tuple[float, dict[str, Any]]:
    """Seconds from before the plugin is started until it has ended, and its result.

    ``socket`` is the agent's. Raises ``LabError`` when the call fails.
    """
    conf = {"cniVersion": "1.1.0", "name": "tulle", "type": "tulle-cni", "agentSocket": str(socket)}
    environment = {"CNI_COMMAND": command, "CNI_PATH": str(PLUGIN.parent)}
    if sandbox:
        environment |= {
            "CNI_CONTAINERID": sandbox.name,
            "CNI_NETNS": str(sandbox.netns),
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={sandbox.name}",
        }
    seconds, code, output = _spawn(json.dumps(conf).encode(), environment)
    if code:
        raise LabError(f"{command}: {output.decode(errors='replace').strip() or f'exit code {code}'}")
    return seconds, json.loads(output) if output else {}


def _spawn(stdin: bytes, environment: dict[str, str]) -> tuple[float, int, bytes]:
    """posix_spawn rather than ``subprocess``, whose own work would count as the plugin's."""
    conf_read, conf_write = os.pipe()
    read, write = os.pipe()
    os.write(conf_write, stdin)  # a few hundred bytes, which a pipe takes at once
    os.close(conf_write)
    actions = [(os.POSIX_SPAWN_DUP2, conf_read, 0), (os.POSIX_SPAWN_DUP2, write, 1)]
    try:
        begin = time.perf_counter()
        pid = os.posix_spawn(PLUGIN, [str(PLUGIN)], environment, file_actions=actions)
        os.close(write)
        output = b"".join(iter(lambda: os.read(read, 1 << 16), b""))
        _, status = os.waitpid(pid, 0)
        seconds = time.perf_counter() - begin
    finally:
        os.close(conf_read)
        os.close(read)
    return seconds, os.waitstatus_to_exitcode(status), output
