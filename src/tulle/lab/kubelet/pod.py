"""One Pod from its arrival on the node to its removal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from tulle.errors import ApiError, ApiUnreachable, CniError, ConfigError, Conflict, NotFound
from tulle.kube.backoff import Backoff
from tulle.lab import cgroup
from tulle.lab.kubelet import files, resolvers, sources, volumes
from tulle.lab.kubelet.config import Kit
from tulle.lab.kubelet.container import ContainerLife
from tulle.lab.kubelet.environment import fields
from tulle.lab.kubelet.launch import Surroundings
from tulle.lab.kubelet.names import Names, NoName, names
from tulle.lab.kubelet.objects import PODS, Container, Pod
from tulle.lab.kubelet.records import now
from tulle.lab.kubelet.sandbox import Sandbox
from tulle.lab.kubelet.status import Facts, Role, pod_status

log = logging.getLogger(__name__)

_FORCED_GRACE = 2.0
_TOGETHER_SECONDS = 0.03


class PodLife:
    """``run`` is the Pod's one task. ``update`` and ``gone`` tell it what the API says of the Pod now."""

    def __init__(self, kit: Kit, pod: Pod) -> None:
        self.pod = pod
        self._kit = kit
        self._dirty = asyncio.Event()
        self._ending = asyncio.Event()
        self._gone = False
        self._start_time = pod.status.start_time or now()
        self._sandbox: Sandbox | None = kit.sandboxes.existing(pod.metadata.uid)
        self._around: Surroundings | None = None
        self.inits = [self._life(c, "sidecar" if c.sidecar else "init") for c in pod.spec.init_containers]
        self.mains = [self._life(c, "main") for c in pod.spec.containers]
        self.update(pod)

    def _life(self, spec: Container, role: Role) -> ContainerLife:
        return ContainerLife(self._kit, self.pod, spec, role, self._dirty.set)

    @property
    def containers(self) -> Sequence[ContainerLife]:
        return (*self.inits, *self.mains)

    def container(self, name: str) -> ContainerLife | None:
        return next((c for c in self.containers if c.spec.name == name), None)

    def update(self, pod: Pod) -> None:
        self.pod = pod
        self._dirty.set()
        if pod.metadata.deletion_timestamp:
            self._ending.set()

    def gone(self) -> None:
        """The API has it no longer: it was deleted by force."""
        self._gone = True
        self._ending.set()

    async def run(self) -> None:
        publishing = asyncio.create_task(self._publish(), name=f"status of {self.pod.title}")
        try:
            if not self.pod.finished or self._sandbox:
                await self._live_until_ending()
                await self._remove_sandbox()
            await self._ending.wait()
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        await self._finalize()

    async def _live_until_ending(self) -> None:
        living = asyncio.create_task(self._live(), name=f"life of {self.pod.title}")
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({living, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not living.done():
                await self._stop()
        finally:
            living.cancel()
            ending.cancel()
            await asyncio.gather(living, ending, return_exceptions=True)
        if not living.cancelled() and (error := living.exception()):
            raise error

    async def _live(self) -> None:
        """Until all main containers have ended and will not be started again."""
        self._around = around = await self._prepare()
        self._dirty.set()
        async with asyncio.TaskGroup() as sidecars:
            if await self._initialize(around, sidecars):
                await asyncio.gather(*(main.run(around) for main in self.mains))
            await self._stop_sidecars()

    async def _initialize(self, around: Surroundings, sidecars: asyncio.TaskGroup) -> bool:
        """Init containers one after the other; a sidecar is passed once it has started."""
        for init in self.inits:
            if init.role == "sidecar":
                sidecars.create_task(init.run(around), name=f"sidecar {init.spec.name}")
                await init.up.wait()
            elif not await init.run(around):
                return False
        return True

    async def _prepare(self) -> Surroundings:
        """Volumes and sandbox, tried until they are there."""
        backoff = Backoff(base=0.5, cap=10.0)
        while True:
            try:
                sandbox = self._sandbox or await self._make_sandbox()
                return await self._surroundings(sandbox)
            except (CniError, NoName) as error:
                message = f"Failed to create pod sandbox: {error}"
                self._kit.events.warning(self.pod, "FailedCreatePodSandBox", message)
            except (ConfigError, ApiError, ApiUnreachable, OSError) as error:
                self._kit.events.warning(self.pod, "FailedMount", f"MountVolume.SetUp failed: {error}")
            await asyncio.sleep(backoff.next())

    async def _make_sandbox(self) -> Sandbox:
        hostname = self._names().kernel
        async with self._kit.slots:
            self._sandbox = await self._kit.sandboxes.create(self.pod, hostname)
        self._dirty.set()
        return self._sandbox

    async def _surroundings(self, sandbox: Sandbox) -> Surroundings:
        config = self._kit.config
        ips = self._ips()
        known = fields(self.pod, config.node, config.addresses, ips)
        data = await sources.fetch(self._kit.client, self.pod)
        folder = config.pods / self.pod.metadata.uid
        prepared = volumes.prepare(folder / "volumes", self.pod, data)
        return Surroundings(self.pod, sandbox, ips, known, prepared, self._write_etc(folder / "etc", ips))

    def _names(self) -> Names:
        """Raises ``NoName``."""
        return names(self.pod, self._kit.config.node, self._kit.config.cluster_domain)

    def _write_etc(self, folder: Path, ips: tuple[str, ...]) -> Mapping[str, Path]:
        config = self._kit.config
        node = resolvers.parse(Path(config.resolv_conf).read_text())
        found, cut = resolvers.limited(resolvers.of_pod(self.pod, config.cluster, node))
        for sentence in cut:
            self._kit.events.warning(self.pod, "DNSConfigForming", sentence)
        node_hosts = Path(config.hosts).read_text()
        return files.write(folder, files.texts(self.pod, self._names(), ips, node_hosts, found))

    def _ips(self) -> tuple[str, ...]:
        if self.pod.spec.host_network:
            return self._kit.config.addresses
        return self._sandbox.record.ips if self._sandbox else ()

    async def _stop(self) -> None:
        """Main containers first and together, then sidecars; the network is there until all have ended."""
        for container in self.containers:
            container.begin_stop()
        grace = self._grace()
        await asyncio.gather(*(main.stop(grace, self._around) for main in self.mains))
        await self._stop_sidecars()

    async def _stop_sidecars(self) -> None:
        for init in reversed(self.inits):
            await init.stop(self._grace(), self._around)

    def _grace(self) -> float:
        if self._gone:
            return _FORCED_GRACE
        asked = self.pod.metadata.deletion_grace_period_seconds
        return float(self.pod.spec.termination_grace_period_seconds if asked is None else asked)

    async def _remove_sandbox(self) -> None:
        """CNI DEL must succeed, however long that takes: else an address would be lost."""
        backoff = Backoff(base=0.5, cap=10.0)
        while self._sandbox:
            try:
                await self._kit.sandboxes.remove(self._sandbox.record)
                self._sandbox = None
            except CniError as error:
                self._kit.events.warning(self.pod, "FailedKillPod", f"Failed to stop pod sandbox: {error}")
                await asyncio.sleep(backoff.next())
        self._dirty.set()

    async def _publish(self) -> None:
        """Writes ``status`` whenever it has changed; changes that come close together go together."""
        backoff = Backoff()
        written: object = None
        while True:
            await self._dirty.wait()
            await asyncio.sleep(_TOGETHER_SECONDS)
            self._dirty.clear()
            status = self._status()
            if status == written or self._gone:
                continue
            try:
                await self._write(status)
                written = status
            except NotFound:
                continue
            except (ApiError, ApiUnreachable) as error:
                log.warning("%s: status not written: %s", self.pod.title, error)
                self._dirty.set()
                await asyncio.sleep(backoff.next())

    def _status(self) -> dict[str, object]:
        facts = Facts(
            sandbox=self._sandbox is not None,
            pod_ips=self._ips(),
            host_ips=self._kit.config.addresses,
            start_time=self._start_time,
            now=now(),
        )
        return pod_status(self.pod, [container.view() for container in self.containers], facts)

    async def _write(self, status: dict[str, object]) -> None:
        meta = self.pod.metadata
        patch = {"metadata": {"uid": meta.uid}, "status": status}
        await self._kit.client.patch(PODS, meta.name, patch, meta.namespace, "status", "strategic")

    async def _finalize(self) -> None:
        """The last status, then the Pod itself, then all that the node keeps of it."""
        meta = self.pod.metadata
        if not self._gone:
            await self._tell_the_api()
        cgroup.kill(self._kit.config.group(meta.uid))
        cgroup.remove(self._kit.config.group(meta.uid))
        self._kit.sandboxes.forget(meta.uid)

    async def _tell_the_api(self) -> None:
        """Tried until the API answers; a Pod that it has no longer, or under another UID, needs no more."""
        meta, client, backoff = self.pod.metadata, self._kit.client, Backoff()
        while True:
            try:
                await self._write(self._status())
                await client.delete(PODS, meta.name, meta.namespace, grace_period_seconds=0)
                return
            except (NotFound, Conflict):
                return
            except (ApiError, ApiUnreachable) as error:
                log.warning("%s: its end is not written: %s", self.pod.title, error)
                await asyncio.sleep(backoff.next())
