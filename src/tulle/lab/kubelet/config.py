"""What a node's kubelet is told when it is started, and what all its parts share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.lab.kubelet.events import Recorder
from tulle.lab.kubelet.links import Service
from tulle.lab.kubelet.resolvers import Cluster
from tulle.lab.kubelet.runtime import Runtime
from tulle.lab.kubelet.sandbox import Sandboxes


class KubeletConfig(msgspec.Struct, frozen=True):
    """Written by the lab as JSON. Addresses and Pod CIDRs come one per family, the primary first.

    ``hosts`` and ``resolv_conf`` are the node's own files, which are not the machine's.
    """

    node: str
    lab: str
    kubeconfig: str
    folder: str
    socket: str
    images: str
    cgroup: str
    netns: str
    cni_conf: str
    cni_bin: str
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    hosts: str
    resolv_conf: str
    cluster_dns: tuple[str, ...]
    cluster_domain: str
    labels: dict[str, str] = {}

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.cluster_dns, self.cluster_domain)

    @property
    def pods(self) -> Path:
        return Path(self.folder) / "pods"

    def group(self, uid: str, container: str = "") -> Path:
        """The cgroup of a Pod, or of one of its containers."""
        return Path(self.cgroup) / "pods" / uid / container


@dataclass(frozen=True, slots=True)
class Kit:
    """The node's tools. ``slots`` bounds how many Pods and containers are made at the same time."""

    config: KubeletConfig
    client: Client
    services: Informer[Service]
    events: Recorder
    runtime: Runtime
    sandboxes: Sandboxes
    http: aiohttp.ClientSession
    slots: asyncio.Semaphore
