"""crun: starts containers and runs commands in them. A container is its init process, watched by pidfd."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shlex
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from tulle.errors import LabError, PrerequisiteError
from tulle.kernel.prerequisites import cgroup2
from tulle.lab import cgroup

_HYBRID: Final = (
    *("unshare", "--mount", "sh", "-c"),
    'echo $$ > "$0/cgroup.procs" && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"',
)
"""Where cgroup v1 is mounted beside v2, crun refuses to start while v2 has a controller, though none is asked
for. So it is shown v2 alone, in a mount namespace that ends with it."""


class Runtime:
    """``folder`` holds crun's own state, which the containers need as long as they live."""

    def __init__(self, folder: Path) -> None:
        if not shutil.which("crun"):
            raise PrerequisiteError("crun is not installed", "running containers", "apt install crun")
        self._crun = ("crun", f"--root={folder}", "--cgroup-manager=disabled")

    @functools.cached_property
    def _join(self) -> tuple[str, ...]:
        return cgroup.JOIN if cgroup2() == Path("/sys/fs/cgroup") else _HYBRID

    async def start(self, container_id: str, bundle: Path, group: Path, output: Path) -> int:
        """Starts the container in the cgroup ``group``; its pid. What it writes is appended to ``output``.

        Output goes straight to the file, so that it goes on while no kubelet runs. Not ``crun run``: that
        sometimes reaps a container that ends at once, and the exit code is lost. Raises ``LabError``.
        """
        group.mkdir(parents=True, exist_ok=True)
        pid_file, log = bundle / "pid", bundle / "crun.log"
        options = (f"--log={log}", "create", f"--bundle={bundle}", f"--pid-file={pid_file}", container_id)
        steps = [shlex.join(self._crun + options), shlex.join((*self._crun, "start", container_id))]
        with output.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *(*self._join, str(group), "sh", "-c", " && ".join(steps)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
            code = await process.wait()
        if code:
            reason = log.read_text().strip() if log.exists() else f"exit code {code}"
            raise LabError(f"crun cannot start the container: {reason}")
        return int(pid_file.read_text())

    async def execute(
        self,
        container_id: str,
        group: Path,
        process: Mapping[str, Any],
        folder: Path,
        console: Path | None = None,
        stdin: int | IO[Any] | None = asyncio.subprocess.DEVNULL,
        stderr: int | None = asyncio.subprocess.PIPE,
    ) -> Execution:
        """Runs a command in the container; ``folder`` is a new folder for the files that this needs."""
        folder.mkdir(parents=True)
        (folder / "process.json").write_bytes(msgspec.json.encode(process))
        options = [f"--process={folder}/process.json", f"--pid-file={folder}/pid"]
        if console:
            options.append(f"--console-socket={console}")
        child = await asyncio.create_subprocess_exec(
            *(*self._join, str(group), *self._crun, "exec", *options, container_id),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
        return Execution(child, folder)

    async def delete(self, container_id: str) -> None:
        """Forgets a container, and kills what is left of it; nothing happens when there is none."""
        process = await asyncio.create_subprocess_exec(
            *self._crun,
            *("delete", "--force", container_id),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await process.wait()


class Execution:
    """A command that runs in a container."""

    def __init__(self, child: asyncio.subprocess.Process, folder: Path) -> None:
        self.child = child
        self._folder = folder

    async def finish(self) -> int:
        """The exit code, once it has ended."""
        code = await self.child.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        return code if code >= 0 else 128 - code

    async def kill(self) -> None:
        """Ends the command itself: crun alone would leave it behind."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self._folder / "pid").read_text()), signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self.child.kill()
        await self.finish()
