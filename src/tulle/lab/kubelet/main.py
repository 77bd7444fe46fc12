"""The kubelet's composition root."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from tulle import logs
from tulle.kernel import libc
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.config import load_kubeconfig
from tulle.kube.informer import Informer
from tulle.lab import cgroup
from tulle.lab.kubelet.config import Kit, KubeletConfig
from tulle.lab.kubelet.events import Recorder
from tulle.lab.kubelet.links import SERVICES
from tulle.lab.kubelet.node import NodeLife
from tulle.lab.kubelet.objects import PODS, Pod
from tulle.lab.kubelet.pod import PodLife
from tulle.lab.kubelet.runtime import Runtime
from tulle.lab.kubelet.sandbox import Sandboxes
from tulle.lab.kubelet.server import serve

log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 5.0


async def run(config: KubeletConfig) -> None:
    """Until SIGTERM or SIGINT. The containers go on; the next kubelet takes them over."""
    libc.become_subreaper()
    folder = Path(config.folder)
    folder.mkdir(parents=True, exist_ok=True)
    Path(config.cni_conf).mkdir(parents=True, exist_ok=True)
    sandboxes = Sandboxes(config.pods, Path(config.netns), Path(config.cni_conf), Path(config.cni_bin))
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with (
        Client(load_kubeconfig(Path(config.kubeconfig))) as client,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        kit = Kit(
            config=config,
            client=client,
            services=Informer(client, SERVICES),
            events=Recorder(client, config.node),
            runtime=Runtime(folder / "crun"),
            sandboxes=sandboxes,
            http=http,
            slots=asyncio.Semaphore(os.cpu_count() or 1),
        )
        await _until_signalled(Kubelet(kit).run())


async def _until_signalled(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped; the containers go on")


class Kubelet:
    """Keeps one ``PodLife`` per Pod of this node, by UID."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._pods: dict[str, PodLife] = {}
        self._group: asyncio.TaskGroup
        self._node = NodeLife(kit)
        selector = f"spec.nodeName={kit.config.node}"
        self._informer = Informer(kit.client, PODS, field_selector=selector)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as self._group:
            self._start(self._kit.events.run(), "events")
            self._start(self._node.run(), "node")
            self._start(serve(Path(self._kit.config.socket), self._pods), "server")
            self._start(self._kit.services.run(), "services")
            await self._kit.services.synced.wait()  # a container must not start without their variables
            self._informer.subscribe(self._changed)
            self._start(self._informer.run(), "pods")
            await self._informer.synced.wait()
            self._start(self._remove_orphans(), "orphans")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._group.create_task(work, name=name)

    def _changed(self, change: Change[Pod]) -> None:
        old, new = change.old, change.new
        if old and (new is None or old.metadata.uid != new.metadata.uid) and old.metadata.uid in self._pods:
            self._pods[old.metadata.uid].gone()
        if new is None:
            return
        if life := self._pods.get(new.metadata.uid):
            life.update(new)
        else:
            life = self._pods[new.metadata.uid] = PodLife(self._kit, new)
            self._start(self._keep(life), f"Pod {new.title}")

    async def _keep(self, life: PodLife) -> None:
        """An error of ours in one Pod must not end the others."""
        while True:
            try:
                await life.run()
                break
            except Exception:
                log.exception("%s: tried again in %.0f s", life.pod.title, _RETRY_SECONDS)
                await asyncio.sleep(_RETRY_SECONDS)
        del self._pods[life.pod.metadata.uid]

    async def _remove_orphans(self) -> None:
        """What an earlier kubelet left of Pods that the API has no longer."""
        sandboxes, config = self._kit.sandboxes, self._kit.config
        for record in list(sandboxes.recorded()):
            if record.uid not in self._pods:
                cgroup.kill(config.group(record.uid))
                cgroup.remove(config.group(record.uid))
                await sandboxes.remove(record)
                sandboxes.forget(record.uid)
        await self._node.collect_garbage()


def main(config_file: Path) -> None:
    """``tulle kubelet``. Not on uvloop: that forks with all page tables where asyncio uses vfork."""
    logs.to_stderr()
    config = msgspec.json.decode(config_file.read_bytes(), type=KubeletConfig)
    asyncio.run(run(config))
