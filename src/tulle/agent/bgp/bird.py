"""The BIRD process of this node: started, adopted, configured, asked, ended.

It runs as the distribution's user ``bird`` with one capability, to listen at port 179: it could not change
a route of the kernel. It is in a session (of processes) of its own, so that it and its BGP sessions go on
when the agent ends; the next agent finds it by its control socket. The folder is root's: BIRD owns only the
folder ``state`` in it, and may read the configuration, which holds passwords. Paths are relative to the
folder, where BIRD is started: the folders above are not open to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tulle.agent.bgp.control import PATIENCE, SHOW, SOCKET, BirdGone, Control, connected
from tulle.errors import PrerequisiteError, TulleError

log = logging.getLogger(__name__)

USER = "bird"
LOG = "state/bird.log"
_CONFIG, _ERRORS = "bird.conf", "bird.err"
_CAPABILITY = "-all,+net_bind_service"
_STEP = 0.02
_PATH = os.pathsep.join([os.defpath, "/usr/sbin", "/usr/local/sbin", "/sbin"])


def prerequisites() -> tuple[str, pwd.struct_passwd]:
    """The program, and who runs it. Raises ``PrerequisiteError``."""
    program = shutil.which("bird", path=_PATH)
    if program is None:
        raise PrerequisiteError("bird is missing", "BGP", "apt-get install bird2")
    try:
        return program, pwd.getpwnam(USER)
    except KeyError as error:
        raise PrerequisiteError(f"the user {USER} is missing", "BGP", "apt-get install bird2") from error


class Bird:
    """``folder`` is on this boot's filesystem: what is found in it is of a BIRD that ran since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._applied = ""

    async def apply(self, config: str) -> None:
        """BIRD runs with this configuration, when this returns; sessions that are the same in it go on.

        One that died is started anew, and tells its peers that it kept its routes (RFC 4724). Raises
        ``PrerequisiteError``; ``TulleError`` when BIRD does not start, or takes the configuration for wrong.
        """
        program, user = prerequisites()
        if not await self._runs():
            await self._start(program, user, config)
        elif config != self._applied:
            self._write(config, user)
            await self._command("configure")
            self._applied = config

    async def ask(self) -> list[str]:
        """The lines of ``show protocols all``. Raises ``BirdGone``."""
        return await self._command(SHOW)

    async def stop(self) -> None:
        """Ends the sessions and the process, and takes its files away; where there are none, does nothing."""
        if not self._folder.exists():
            return
        pid = 0
        with contextlib.suppress(BirdGone):
            async with self._connected() as control:
                pid = control.pid
                await control.command("down")
        if pid:
            await _ended(pid)
            log.info("BIRD has ended")
        self._reap()
        self._applied = ""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _runs(self) -> bool:
        try:
            async with self._connected():
                return True
        except BirdGone:
            return False

    async def _command(self, text: str) -> list[str]:
        async with self._connected() as control:
            return await control.command(text)

    async def _start(self, program: str, user: pwd.struct_passwd, config: str) -> None:
        recover = (self._folder / _CONFIG).exists()
        self._reap()
        self._prepare(user)
        self._write(config, user)
        self._process = self._spawn(program, user, recover)
        await self._begun(self._process)
        self._applied = config
        log.info("BIRD has started%s", ", its peers keep what they know" if recover else "")

    def _spawn(self, program: str, user: pwd.struct_passwd, recover: bool) -> subprocess.Popen[bytes]:
        line = [
            "setpriv",
            f"--reuid={user.pw_uid}",
            f"--regid={user.pw_gid}",
            "--clear-groups",
            "--no-new-privs",
        ]
        line += [f"--{kind}={_CAPABILITY}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
        line += [program, "-f", "-c", _CONFIG, "-s", SOCKET, *(["-R"] if recover else [])]
        with (self._folder / _ERRORS).open("wb") as errors:
            return subprocess.Popen(
                line,
                cwd=self._folder,
                env={"PATH": _PATH, "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )

    async def _begun(self, process: subprocess.Popen[bytes]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not await self._runs():
                    if process.poll() is not None:
                        said = (self._folder / _ERRORS).read_text(errors="replace").strip()
                        raise TulleError(f"BIRD ended at once: {said or process.returncode}")
                    await asyncio.sleep(_STEP)
        except TimeoutError as error:
            process.kill()
            raise TulleError(f"BIRD did not begin within {PATIENCE:.0f} s") from error

    def _prepare(self, user: pwd.struct_passwd) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chown(self._folder, 0, user.pw_gid)
        self._folder.chmod(0o750)
        state = self._folder / "state"
        state.mkdir(exist_ok=True, mode=0o700)
        os.chown(state, user.pw_uid, user.pw_gid, follow_symlinks=False)

    def _write(self, config: str, user: pwd.struct_passwd) -> None:
        """Whole or not at all, and never readable for others."""
        partial = self._folder / f".{_CONFIG}"
        partial.unlink(missing_ok=True)
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w") as stream:
            stream.write(config)
            os.fchown(stream.fileno(), user.pw_uid, user.pw_gid)
        partial.replace(self._folder / _CONFIG)

    def _reap(self) -> None:
        """One that was ours and ended must not stay in the table of processes."""
        if self._process and self._process.poll() is not None:
            self._process = None

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Control]:
        """A BIRD that holds the socket, but is silent, is killed: the next one takes over its sessions."""
        async with connected(self._folder) as control:
            try:
                async with asyncio.timeout(PATIENCE):
                    await control.greeting()
                    yield control
            except TimeoutError as error:
                log.error("BIRD (process %d) does not answer and is killed", control.pid)
                _kill(control.pid)
                raise BirdGone("BIRD does not answer") from error
            except (EOFError, OSError) as error:
                raise BirdGone(f"BIRD went away: {error}") from error


async def _ended(pid: int) -> None:
    """Waits for the process to end, and makes it when it does not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, done.set)
    try:
        async with asyncio.timeout(PATIENCE):
            await done.wait()
    except TimeoutError:
        _kill(pid)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
