"""Where things are on the machine: all of a lab is below one folder and one cgroup."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tulle.kernel.prerequisites import cgroup2

RUN: Final = Path("/run/tulle/lab")


@dataclass(frozen=True, slots=True)
class NodePaths:
    """What belongs to one node."""

    run: Path
    bpffs: Path
    cgroup: Path

    @property
    def kubeconfig(self) -> Path:
        return self.run / "kubeconfig"

    @property
    def agent_settings(self) -> Path:
        return self.run / "agent.yaml"

    @property
    def kubelet_config(self) -> Path:
        return self.run / "kubelet.json"

    @property
    def kubelet_socket(self) -> Path:
        return self.run / "kubelet.sock"

    @property
    def hosts(self) -> Path:
        """What would be ``/etc/hosts``, if a node had a file system of its own."""
        return self.run / "etc" / "hosts"

    @property
    def resolv_conf(self) -> Path:
        """What would be its ``/etc/resolv.conf``."""
        return self.run / "etc" / "resolv.conf"

    @property
    def dns(self) -> Path:
        """What the node's cluster DNS keeps."""
        return self.run / "dns"

    @property
    def cni_conf(self) -> Path:
        return self.run / "cni" / "net.d"

    @property
    def cni_bin(self) -> Path:
        return self.run / "cni" / "bin"


@dataclass(frozen=True, slots=True)
class Paths:
    """``run`` is a tmpfs of the lab's own: what must not outlive the lab, or a reboot, is in it."""

    name: str

    @property
    def run(self) -> Path:
        return RUN / self.name

    @property
    def facts(self) -> Path:
        """The ``Spec``, written before anything else is made."""
        return self.run / "lab.json"

    @property
    def complete(self) -> Path:
        """Is there once the lab was up; without it, it is the rest of an attempt."""
        return self.run / "complete"

    @property
    def tokens(self) -> Path:
        """The nodes' bearer tokens."""
        return self.run / "tokens"

    @property
    def cgroup(self) -> Path:
        return cgroup2() / f"tulle-lab-{self.name}"

    @property
    def bpffs(self) -> Path:
        return self.run / "bpf"

    @property
    def images(self) -> Path:
        return self.run / "images"

    @property
    def apiserver(self) -> Path:
        return self.run / "apiserver"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, from the machine itself."""
        return self.run / "kubeconfig"

    @property
    def inner_kubeconfig(self) -> Path:
        """The administrator's, from within the lab's network."""
        return self.run / "kubeconfig.inner"

    @property
    def controller_kubeconfig(self) -> Path:
        """That of `tulle controller`, from within the lab's network."""
        return self.run / "kubeconfig.controller"

    def netns(self, host: str) -> Path:
        return self.run / "netns" / host

    def node(self, name: str) -> NodePaths:
        return NodePaths(self.run / "nodes" / name, self.bpffs / name, self.cgroup / name)
