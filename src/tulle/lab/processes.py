"""Processes that outlive the command that starts them: recorded with their start time, found again by it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tulle.lab import cgroup
from tulle.lab.paths import Paths

TULLE: Final = (sys.executable, "-m", "tulle")
_TAIL = 12


class Process(msgspec.Struct, frozen=True):
    """``started`` is field 22 of ``/proc/<pid>/stat``: with it a reused pid is not taken for this process."""

    host: str
    what: str
    pid: int
    started: int
    log: str

    @property
    def title(self) -> str:
        return f"{self.what} of {self.host}"

    def alive(self) -> bool:
        return start_time(self.pid) == self.started

    def tail(self) -> str:
        """The last lines of its log."""
        lines = Path(self.log).read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL:])


def start_time(pid: int) -> int | None:
    """In clock ticks since boot; None for a process that does not run (any more)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def start(
    paths: Paths,
    host: str,
    what: str,
    command: Sequence[str],
    netns: Path | None = None,
    listeners: Sequence[int] = (),
) -> Process:
    """Starts ``command`` in a session and a cgroup of its own, and in the network namespace at ``netns``.

    ``listeners`` are descriptors that the process inherits under the same numbers. Only the network namespace
    is entered: ``ip netns exec`` would mount /sys anew and so hide bpffs and cgroups.
    """
    group = _group(paths, host, what)
    group.mkdir(parents=True, exist_ok=True)
    log = paths.run / "log" / f"{host}.{what}.log"
    log.parent.mkdir(exist_ok=True)
    enter = ("nsenter", f"--net={netns}") if netns else ()
    line: list[str] = [*enter, *cgroup.JOIN, str(group), *command]
    pid = _spawn(line, log, listeners)
    process = Process(host, what, pid, start_time(pid) or 0, str(log))
    _record(paths, process).write_bytes(msgspec.json.encode(process))
    return process


def _spawn(line: list[str], log: Path, listeners: Sequence[int]) -> int:
    for fd in listeners:
        os.set_inheritable(fd, True)
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    return os.posix_spawnp(
        line[0],
        line,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def recorded(paths: Paths) -> list[Process]:
    """All that were started, in the order of their names, whether alive or not."""
    files = sorted((paths.run / "processes").glob("*.json"))
    return [msgspec.json.decode(file.read_bytes(), type=Process) for file in files]


def resident(paths: Paths, process: Process) -> int:
    """Bytes that it and the processes of its cgroup, its workers, have in memory; 0 when all are gone."""
    try:
        pids = (_group(paths, process.host, process.what) / "cgroup.procs").read_text().split()
    except OSError:
        return 0
    return sum(map(_pages, pids)) * os.sysconf("SC_PAGE_SIZE")


def _pages(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0


def _group(paths: Paths, host: str, what: str) -> Path:
    return paths.cgroup / host / what


def _record(paths: Paths, process: Process) -> Path:
    folder = paths.run / "processes"
    folder.mkdir(exist_ok=True)
    return folder / f"{process.host}.{process.what}.json"


def watch(pid: int) -> asyncio.Future[int | None]:
    """Becomes the exit code once it has ended: 128 + n for signal n, None when it is not our child."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int | None] = loop.create_future()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        future.set_result(None)
        return future

    def ended() -> None:
        loop.remove_reader(descriptor)
        code = _reap(descriptor)
        os.close(descriptor)
        if not future.done():
            future.set_result(code)

    loop.add_reader(descriptor, ended)
    return future


def _reap(descriptor: int) -> int | None:
    try:
        info = os.waitid(os.P_PIDFD, descriptor, os.WEXITED)
    except ChildProcessError:
        return None
    if info is None:
        return None
    return info.si_status if info.si_code == os.CLD_EXITED else 128 + info.si_status
