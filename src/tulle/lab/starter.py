"""The processes of a lab: with which settings and command lines they are started, and in which namespace."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tulle.kernel import netns
from tulle.kube.config import load_kubeconfig
from tulle.lab import processes, underlay
from tulle.lab.kubelet.config import KubeletConfig
from tulle.lab.paths import Paths
from tulle.lab.processes import Process
from tulle.lab.spec import CLUSTER_DOMAIN, Host, Spec, Topology

API_PORT: Final = 6443
API_SERVER: Final = "apiserver"
CONTROLLER: Final = "controller"
DNS_PORT: Final = 53
RESOLVER: Final = "resolver"
ZONE: Final = "topology.kubernetes.io/zone"
_FLOWS = 1 << 16  # of each node: they share one machine's memory


class Starter:
    """Each method starts one process and returns at once."""

    def __init__(self, paths: Paths, spec: Spec, topology: Topology) -> None:
        self.paths = paths
        self.spec = spec
        self.topology = topology

    def api_server(self) -> tuple[Process, int]:
        """Also its port on the machine's loopback address.

        Its sockets listen before it runs, so that whoever comes early waits instead of being refused.
        """
        port = 0
        if self.paths.kubeconfig.exists():
            port = urlsplit(load_kubeconfig(self.paths.kubeconfig).server).port or 0
        outer = socket.create_server(("127.0.0.1", port), backlog=512)
        with netns.entered(self.paths.netns(underlay.UNDERLAY)):
            inner = [_listen(str(address)) for address in self.topology.api]
        listeners = [each.fileno() for each in (outer, *inner)]
        port = outer.getsockname()[1]
        names = [f"--san={address}" for address in self.topology.api]
        command = [
            *(*processes.TULLE, "apiserver", f"--state-dir={self.paths.apiserver}", *names),
            *(f"--kubeconfig-out={self.paths.kubeconfig}", f"--token-file={self.paths.tokens}"),
            *(f"--listen-fd={fd}" for fd in listeners),
            f"--service-cidr={_commas(self.topology.services)}",
            f"--advertise-address={_commas(self.topology.api)}",
            f"--advertise-port={API_PORT}",
        ]
        process = processes.start(self.paths, underlay.UNDERLAY, API_SERVER, command, None, listeners)
        for each in (outer, *inner):
            each.close()
        return process, port

    def resolver(self) -> Process:
        """That of *world*. Its sockets are there before it runs, so that no query is lost."""
        world = self.topology.world
        with netns.entered(self.paths.netns(world.name)):
            sockets = [each for address in world.far for each in _resolver_sockets(str(address.ip))]
        listeners = [each.fileno() for each in sockets]
        command = [*processes.TULLE, "lab", "resolver", *(f"--fd={fd}" for fd in listeners)]
        command += [f"--address={address.ip}" for address in world.addresses]
        process = processes.start(self.paths, world.name, RESOLVER, command, None, listeners)
        for each in sockets:
            each.close()
        return process

    def controller(self) -> Process:
        """It needs nothing but the API, which is in the underlay."""
        command = [*processes.TULLE, "controller", f"--kubeconfig={self.paths.controller_kubeconfig}"]
        return processes.start(
            self.paths, underlay.UNDERLAY, CONTROLLER, command, self.paths.netns(underlay.UNDERLAY)
        )

    def agent(self, node: Host) -> Process:
        paths = self.paths.node(node.name)
        paths.bpffs.mkdir(exist_ok=True)
        settings = {
            "nodeName": node.name,
            "kubeconfig": str(paths.kubeconfig),
            "stateDir": str(paths.run / "agent" / "state"),
            "runDir": str(paths.run / "agent" / "run"),
            "bpffs": str(paths.bpffs),
            "cniConfDir": str(paths.cni_conf),
            "cniBinDir": str(paths.cni_bin),
            "routing": self.spec.routing,
            "cgroup": str(paths.cgroup),
            "flowTableSize": _FLOWS,
        }
        paths.agent_settings.write_bytes(msgspec.yaml.encode(settings))
        command = [*processes.TULLE, "agent", f"--config={paths.agent_settings}"]
        return processes.start(self.paths, node.name, "agent", command, self.paths.netns(node.name))

    def dns(self, node: Host) -> Process:
        """The cluster DNS on the node, at addresses that it puts on the node itself."""
        paths = self.paths.node(node.name)
        command = [
            *(*processes.TULLE, "dns", f"--kubeconfig={paths.kubeconfig}", f"--node-name={node.name}"),
            *(f"--zone={CLUSTER_DOMAIN}", f"--upstream-file={paths.resolv_conf}", f"--state-dir={paths.dns}"),
            *(f"--listen={address}" for address in self.topology.dns),
            "--assign",
        ]
        return processes.start(self.paths, node.name, "dns", command, self.paths.netns(node.name))

    def kubelet(self, node: Host) -> Process:
        paths = self.paths.node(node.name)
        config = KubeletConfig(
            node=node.name,
            lab=self.spec.name,
            kubeconfig=str(paths.kubeconfig),
            folder=str(paths.run / "kubelet"),
            socket=str(paths.kubelet_socket),
            images=str(self.paths.images),
            cgroup=str(paths.cgroup),
            netns=str(self.paths.netns(node.name)),
            cni_conf=str(paths.cni_conf),
            cni_bin=str(paths.cni_bin),
            addresses=tuple(str(address.ip) for address in node.addresses),
            pod_cidrs=tuple(str(cidr) for cidr in node.pod_cidrs),
            hosts=str(paths.hosts),
            resolv_conf=str(paths.resolv_conf),
            cluster_dns=tuple(map(str, self.topology.dns)),
            cluster_domain=CLUSTER_DOMAIN,
            labels={ZONE: node.zone},
        )
        paths.kubelet_config.write_bytes(msgspec.json.encode(config))
        command = [*processes.TULLE, "kubelet", str(paths.kubelet_config)]
        return processes.start(self.paths, node.name, "kubelet", command, self.paths.netns(node.name))


def _commas(parts: Iterable[object]) -> str:
    return ",".join(map(str, parts))


def _listen(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, API_PORT), family=family, backlog=512)


def _resolver_sockets(address: str) -> tuple[socket.socket, socket.socket]:
    """For UDP and TCP."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.bind((address, DNS_PORT))
    return datagrams, socket.create_server((address, DNS_PORT), family=family, backlog=512)
