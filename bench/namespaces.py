"""Network namespaces and processes in them, which all go when the benchmark ends, however it ends."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from tulle.errors import LabError
from tulle.kernel import netns, sysctl

_QUIET = {
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",  # on wires of our own nobody else has the address
    "net/ipv6/conf/default/accept_ra": "0",
}
_PLAIN_BRIDGES = ("iptables", "ip6tables", "arptables")
_PATIENCE = 10.0  # seconds for a process to end


def make(path: Path, stack: ExitStack) -> Path:
    """A new network namespace at ``path``, until ``stack`` ends."""
    netns.create(path)
    stack.callback(netns.delete, path)
    configure(path, _QUIET)
    make_bridges_plain(path)
    ip(path, ["link set lo up"])
    return path


def make_bridges_plain(path: Path) -> None:
    """Bridges show no packets to netfilter: where the kernel has br_netfilter, that would slow them down."""
    with netns.entered(path), suppress(FileNotFoundError):
        for name in _PLAIN_BRIDGES:
            sysctl.ensure(f"net/bridge/bridge-nf-call-{name}", 0)


def configure(path: Path, settings: dict[str, str]) -> None:
    with netns.entered(path):
        for name, value in settings.items():
            sysctl.write(name, value)


def ip(path: Path, commands: Iterable[str]) -> None:
    """Runs ``ip -batch`` in the namespace. Raises ``LabError`` with what ``ip`` said."""
    lines = "\n".join(commands)
    with netns.entered(path):
        done = subprocess.run(["ip", "-batch", "-"], input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"the network of {path.name} cannot be set up: {done.stderr.strip()}")


def run(path: Path, command: Sequence[str | Path], timeout: float) -> str:
    """Runs a command in the namespace to its end; what it printed. Raises ``LabError``."""
    with netns.entered(path):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, complaint = process.communicate(timeout=timeout)
    finally:
        end(process)
    if process.returncode:
        raise LabError(f"{' '.join(map(str, command))} in {path.name}: {complaint.strip()}")
    return output


def start(
    path: Path,
    command: Sequence[str | Path],
    stack: ExitStack,
    log: IO[bytes] | None = None,
    stdin: int | None = None,
) -> subprocess.Popen[bytes]:
    """A process in the namespace, until ``stack`` ends; its output goes to ``log``, or to a pipe."""
    with netns.entered(path):
        process = subprocess.Popen(command, stdin=stdin, stdout=log or subprocess.PIPE, stderr=log)
    stack.callback(end, process)
    return process


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """SIGTERM, and SIGKILL when that does not help."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
