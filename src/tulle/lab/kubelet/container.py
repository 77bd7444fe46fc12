"""One container, through all its starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec

from tulle.lab import cgroup
from tulle.lab.kubelet import records, rootfs
from tulle.lab.kubelet.config import Kit
from tulle.lab.kubelet.launch import CannotStart, Surroundings, launch
from tulle.lab.kubelet.objects import Container, Handler, Pod, Probe
from tulle.lab.kubelet.probes import Target, attempt, verdicts
from tulle.lab.kubelet.records import ContainerRecord, Terminated, now
from tulle.lab.kubelet.restarts import CrashBackoff, again
from tulle.lab.kubelet.runtime import Execution
from tulle.lab.kubelet.status import Role, View, Waiting
from tulle.lab.processes import start_time, watch

log = logging.getLogger(__name__)

_UNKNOWN_EXIT = 137
_RETRY_SECONDS = 5.0
_LEAST_GRACE = 2.0


class ContainerLife:
    """``run`` starts the container, and again whenever its policy says so; ``stop`` ends it for good.

    ``up`` is set while it runs and has passed its startup probe. ``changed`` is called whenever ``view`` has.
    """

    def __init__(self, kit: Kit, pod: Pod, spec: Container, role: Role, changed: Callable[[], None]) -> None:
        self.spec = spec
        self.role = role
        self.up = asyncio.Event()
        self._kit = kit
        self._pod = pod
        self._changed = changed
        self._folder = kit.config.pods / pod.metadata.uid / "containers" / spec.name
        self._group = kit.config.group(pod.metadata.uid, spec.name)
        self._record = records.read(self._folder / "record.json", ContainerRecord) or ContainerRecord()
        self._waiting: Waiting | None = None if self._record.attempt else Waiting("ContainerCreating")
        self._ready = False
        self._stopping = asyncio.Event()
        self._starting = asyncio.Lock()
        self._exit: asyncio.Future[int | None] | None = None
        self._backoff = CrashBackoff()
        self._adopt()

    def view(self) -> View:
        return View(self.role, self.spec, self._record, self._waiting, self.up.is_set(), self._ready)

    def wait_for(self, reason: str, message: str = "") -> None:
        """Says why it does not run yet."""
        self._waiting = Waiting(reason, message)
        self._changed()

    def output(self, previous: bool = False) -> Path:
        """The file that the container writes to, or wrote to the last time."""
        return self._folder / f"{self._record.attempt - (1 if previous else 0)}.log"

    @property
    def running(self) -> bool:
        return self._record.pid != 0

    async def run(self, around: Surroundings) -> bool:
        """Until it will not be started again; whether it succeeded at last."""
        ended = self._record.ended
        if ended and not self._again(ended.exit_code):
            return ended.exit_code == 0
        while not self._stopping.is_set():
            fresh = not self.running
            try:
                async with self._starting:
                    if fresh and not self._stopping.is_set():
                        await self._start(around)
            except CannotStart as error:
                await self._cannot_start(error)
                continue
            if not self.running:
                break
            began = time.monotonic()
            code = await self._supervise(around, fresh)
            if self._stopping.is_set() or not self._again(code):
                return code == 0
            await self._pause_after_crash(time.monotonic() - began)
        return False

    def _again(self, exit_code: int) -> bool:
        return again(self._pod.spec.restart_policy, self.role, exit_code)

    def _adopt(self) -> None:
        """Takes over the process that an earlier kubelet started; notes the end of one that is gone."""
        record = self._record
        if record.pid and start_time(record.pid) == record.born:
            self._exit = watch(record.pid)
        elif record.pid:
            self._ended(_UNKNOWN_EXIT, "ContainerStatusUnknown")

    async def _start(self, around: Surroundings) -> None:
        record = self._record
        if record.id:
            await self._kit.runtime.delete(record.id)
        record.id, record.attempt = token_hex(32), record.attempt + 1
        records.write(self._folder / "record.json", record)
        try:
            launched = await launch(
                self._kit, around, self.spec, record.id, self._folder / "bundle", self.output()
            )
        except CannotStart:
            record.attempt -= 1
            raise
        record.pid, record.born = launched.pid, start_time(launched.pid) or 0
        record.started_at, record.image_id = now(), launched.image_id
        record.last, record.ended = record.ended or record.last, None
        self._exit = watch(launched.pid)
        self._waiting = None
        records.write(self._folder / "record.json", record)
        (self._folder / f"{record.attempt - 2}.log").unlink(missing_ok=True)
        self._kit.events.normal(self._pod, "Started", f"Started container {self.spec.name}", self.spec.name)
        self._changed()

    async def _cannot_start(self, error: CannotStart) -> None:
        self.wait_for(error.reason, str(error))
        self._kit.events.warning(self._pod, "Failed", f"Error: {error.reason}: {error}", self.spec.name)
        await self._pause(_RETRY_SECONDS)

    async def _pause_after_crash(self, ran_for: float) -> None:
        delay = self._backoff.next(ran_for)
        if delay == 0:
            return
        message = f"back-off {delay:.0f}s restarting failed container={self.spec.name} pod={self._pod.title}"
        self._record.last = self._record.ended or self._record.last
        self.wait_for("CrashLoopBackOff", message)
        self._kit.events.warning(
            self._pod, "BackOff", f"Back-off restarting failed container {self.spec.name}", self.spec.name
        )
        await self._pause(delay)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _supervise(self, around: Surroundings, fresh: bool) -> int:
        """Hooks and probes for as long as the container runs; its exit code."""
        assert self._exit is not None
        async with asyncio.TaskGroup() as group:
            care = group.create_task(self._care(around, fresh), name=f"probes of {self.spec.name}")
            code = await asyncio.shield(self._exit)
            care.cancel()
        reason = "ContainerStatusUnknown" if code is None else "Error" if code else "Completed"
        self._ended(_UNKNOWN_EXIT if code is None else code, reason)
        rootfs.unmount(self._folder / "bundle")
        self._changed()
        return _UNKNOWN_EXIT if code is None else code

    def _ended(self, code: int, reason: str) -> None:
        record = self._record
        record.ended = Terminated(code, reason, record.started_at, now(), f"crun://{record.id}")
        record.pid = 0
        records.write(self._folder / "record.json", record)
        self._ready = False
        self.up.clear()

    async def _care(self, around: Surroundings, fresh: bool) -> None:
        target = self._target(around)
        hook = self.spec.lifecycle.post_start
        if hook and fresh and (reason := await attempt(hook, target, None)):
            self._kit.events.warning(self._pod, "FailedPostStartHook", reason, self.spec.name)
            await self._kill(around, "failed its postStart hook")
            return
        if self.spec.startup_probe and not await self._has_started(self.spec.startup_probe, around):
            return
        self.up.set()
        self._set_ready(self.spec.readiness_probe is None)
        async with asyncio.TaskGroup() as group:
            if self.spec.readiness_probe:
                group.create_task(self._watch_readiness(self.spec.readiness_probe, target))
            if self.spec.liveness_probe:
                group.create_task(self._watch_liveness(self.spec.liveness_probe, around))

    async def _has_started(self, probe: Probe, around: Surroundings) -> bool:
        async for passed in verdicts(probe, self._target(around), self._unhealthy("Startup")):
            if not passed:
                await self._kill(around, "failed startup probe", probe.termination_grace_period_seconds)
            return passed
        return False

    async def _watch_readiness(self, probe: Probe, target: Target) -> None:
        async for passed in verdicts(probe, target, self._unhealthy("Readiness")):
            self._set_ready(passed)

    async def _watch_liveness(self, probe: Probe, around: Surroundings) -> None:
        async for passed in verdicts(probe, self._target(around), self._unhealthy("Liveness")):
            if not passed and not self._stopping.is_set():
                await self._kill(around, "failed liveness probe", probe.termination_grace_period_seconds)
                return

    def _unhealthy(self, kind: str) -> Callable[[str], None]:
        def failed(reason: str) -> None:
            self._kit.events.warning(self._pod, "Unhealthy", f"{kind} probe failed: {reason}", self.spec.name)

        return failed

    def _set_ready(self, ready: bool) -> None:
        self._ready = ready
        self._changed()

    def _target(self, around: Surroundings) -> Target:
        ports = {port.name: port.container_port for port in self.spec.ports if port.name}

        async def run(command: Sequence[str]) -> tuple[int, str]:
            execution = await self.execute(command)
            try:
                out, _ = await execution.child.communicate()
                return await execution.finish(), out.decode(errors="replace")
            except asyncio.CancelledError:
                await asyncio.shield(execution.kill())
                raise

        return Target(around.ips[0], ports, run, self._kit.http)

    async def execute(
        self,
        command: Sequence[str],
        console: Path | None = None,
        stdin: int = asyncio.subprocess.DEVNULL,
        stderr: int = asyncio.subprocess.STDOUT,
    ) -> Execution:
        """Runs a command beside the container's main process, as the same user in the same environment."""
        config = msgspec.json.decode((self._folder / "bundle" / "config.json").read_bytes())
        process = config["process"] | {"args": list(command), "terminal": console is not None}
        if console:
            process["env"] = [*process["env"], "TERM=xterm"]
        folder = self._folder / "exec" / token_hex(8)
        return await self._kit.runtime.execute(
            self._record.id, self._group, process, folder, console, stdin, stderr
        )

    async def _kill(self, around: Surroundings, why: str, grace: int | None = None) -> None:
        seconds = self._pod.spec.termination_grace_period_seconds if grace is None else grace
        message = f"Container {self.spec.name} {why}, will be restarted"
        self._kit.events.normal(self._pod, "Killing", message, self.spec.name)
        await self._end(float(seconds), around)

    def begin_stop(self) -> None:
        """From now on it is not started again."""
        self._stopping.set()

    async def stop(self, grace: float, around: Surroundings | None) -> None:
        """preStop hook, SIGTERM, and after ``grace`` seconds in all SIGKILL; returns once it has ended."""
        self._stopping.set()
        async with self._starting:
            if not self.running or self._exit is None:
                return
        self._kit.events.normal(self._pod, "Killing", f"Stopping container {self.spec.name}", self.spec.name)
        await self._end(grace, around)

    async def _end(self, grace: float, around: Surroundings | None) -> None:
        began = time.monotonic()
        hook = self.spec.lifecycle.pre_stop
        if hook and around and grace > 0:
            await self._pre_stop(hook, around, grace)
        left = grace - (time.monotonic() - began)
        await self._signal_and_wait(max(left, _LEAST_GRACE if grace else 0.0))

    async def _pre_stop(self, hook: Handler, around: Surroundings, grace: float) -> None:
        """As long as the container runs and there is time."""
        assert self._exit is not None
        acting = asyncio.create_task(attempt(hook, self._target(around), grace))
        both: set[asyncio.Future[Any]] = {acting, self._exit}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if acting.done() and (reason := acting.result()):
            self._kit.events.warning(self._pod, "FailedPreStopHook", reason, self.spec.name)
        acting.cancel()

    async def _signal_and_wait(self, grace: float) -> None:
        assert self._exit is not None
        if grace > 0:
            self._signal(signal.SIGTERM)
            await asyncio.wait({self._exit}, timeout=grace)
        if not self._exit.done():
            self._signal(signal.SIGKILL)
            cgroup.kill(self._group)
            await asyncio.wait({self._exit})

    def _signal(self, number: signal.Signals) -> None:
        if self._record.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._record.pid, number)
