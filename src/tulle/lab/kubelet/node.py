"""The Node object: registration, readiness, and the lease that says that the kubelet lives."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import subprocess
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import tulle
from tulle.errors import ApiError, ApiUnreachable, CniError, Conflict, NotFound
from tulle.kube.backoff import Backoff
from tulle.kube.resources import LEASES, NODES
from tulle.lab.inotify import Watch
from tulle.lab.kubelet.config import Kit
from tulle.lab.kubelet.records import now

log = logging.getLogger(__name__)

Json = dict[str, Any]

_HEARTBEAT_SECONDS: Final = 10.0
_LEASE_SECONDS: Final = 40
_LEASES_NAMESPACE: Final = "kube-node-lease"
_MOST_PODS: Final = 110
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def body(kit: Kit) -> Json:
    """The Node as it registers itself."""
    config = kit.config
    labels = {
        "kubernetes.io/hostname": config.node,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": _architecture(),
    }
    annotations = {"tulle.dev/lab": config.lab, "tulle.dev/kubelet-socket": config.socket}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": config.node, "labels": labels | config.labels, "annotations": annotations},
        "spec": {"podCIDR": config.pod_cidrs[0], "podCIDRs": list(config.pod_cidrs)},
    }


def status(kit: Kit, unready: str, since: str) -> Json:
    """``unready`` says why the network cannot be used, and is empty when it can, since ``since``."""
    addresses = [{"type": "InternalIP", "address": address} for address in kit.config.addresses]
    capacity = {
        "cpu": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 1024}Ki",
        "pods": str(_MOST_PODS),
    }
    return {
        # Kubernetes merges addresses by type, so that of two InternalIPs one would be lost.
        "addresses": [*addresses, {"type": "Hostname", "address": kit.config.node}, {"$patch": "replace"}],
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [_condition(unready, since)],
        "nodeInfo": _info(),
    }


def _condition(unready: str, since: str) -> Json:
    return {
        "type": "Ready",
        "status": "False" if unready else "True",
        "reason": "KubeletNotReady" if unready else "KubeletReady",
        "message": f"network not ready: {unready}" if unready else "kubelet is posting ready status",
        "lastHeartbeatTime": now(),
        "lastTransitionTime": since,
    }


def _architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _info() -> Json:
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    crun = subprocess.run(["crun", "--version"], capture_output=True, text=True, check=False).stdout.split()
    return {
        "kubeletVersion": f"v1.36.0+tulle.{tulle.__version__}",
        "containerRuntimeVersion": f"crun://{crun[2] if len(crun) > 2 else 'unknown'}",
        "kernelVersion": platform.release(),
        "osImage": release.get("PRETTY_NAME", "Linux"),
        "operatingSystem": "linux",
        "architecture": _architecture(),
        "machineID": "",
        "systemUUID": "",
        "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "kubeProxyVersion": "",
    }


class NodeLife:
    """``run`` keeps Node and Lease; ``collect_garbage`` frees what plugins hold for nobody."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def run(self) -> None:
        await self._insist(self._register)
        known: str | None = None
        since = now()
        with Watch(Path(self._kit.config.cni_conf)) as folder:
            while True:
                unready = await self._network()
                if unready != known:
                    since = now()
                    await self._insist(partial(self._write, unready, since))
                    known = unready
                await self._insist(self._renew)
                await folder.changed(_HEARTBEAT_SECONDS)

    async def collect_garbage(self) -> None:
        network = self._kit.sandboxes.network()
        if network is None:
            return
        valid = [record.id for record in self._kit.sandboxes.recorded()]
        try:
            await self._kit.sandboxes.plugins.collect_garbage(network, valid)
        except CniError as error:
            log.warning("CNI GC: %s", error)

    async def _network(self) -> str:
        """Why the network is not ready; empty when it is (N-13)."""
        try:
            network = self._kit.sandboxes.network()
            if network is None:
                return "no CNI configuration yet"
            await self._kit.sandboxes.plugins.status(network)
        except CniError as error:
            return str(error)
        return ""

    async def _insist(self, call: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff()
        while True:
            try:
                await call()
                return
            except (ApiError, ApiUnreachable) as error:
                log.warning("node %s: %s", self._kit.config.node, error)
                await asyncio.sleep(backoff.next())

    async def _register(self) -> None:
        wanted = body(self._kit)
        try:
            await self._kit.client.create(NODES, wanted)
        except Conflict:
            metadata = {key: wanted["metadata"][key] for key in ("labels", "annotations")}
            await self._kit.client.patch(NODES, self._kit.config.node, {"metadata": metadata})

    async def _write(self, unready: str, since: str) -> None:
        patch = {"status": status(self._kit, unready, since)}
        await self._kit.client.patch(NODES, self._kit.config.node, patch, None, "status", "strategic")

    async def _renew(self) -> None:
        name = self._kit.config.node
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": name, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": time}
        try:
            await self._kit.client.patch(LEASES, name, {"spec": spec}, _LEASES_NAMESPACE)
        except NotFound:
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": _LEASES_NAMESPACE},
                "spec": spec,
            }
            await self._kit.client.create(LEASES, lease, _LEASES_NAMESPACE)
