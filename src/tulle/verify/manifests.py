"""The Pods that verify has made. Pure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tulle import __version__
from tulle.verify.plan import MAIN, SECOND

LAB_MARK: Final = "tulle.dev/lab"
"""A Node with this annotation belongs to a lab on this machine."""
LAB_IMAGE: Final = "tulle.dev/host"
DEFAULT_IMAGE: Final = f"tulle:{__version__}"
ROLE: Final = "tulle.dev/verify"
"""The label that tells Services which Pods are theirs."""
POD: Final = "tulle.dev/verify-pod"
"""The label that has a Pod's own name, for a Service that leads to it alone."""
SUBDOMAIN: Final = "headless"
"""Pods with it have a name of their own below the Service of that name."""
_IN_PACKETS: Final = {"tulle.dev/socket-services": "false"}
LABELS: Final = {"app.kubernetes.io/name": "tulle-verify"}
MAIN_PORT: Final = 8099
SECOND_PORT: Final = 8098
PORT_NAME: Final = "main"


@dataclass(frozen=True)
class Image:
    """What the Pods run; ``python`` is the interpreter in it that has Tulle."""

    name: str
    python: str

    def probe(self, *arguments: str) -> list[str]:
        """The command line of the probe in a Pod."""
        return [self.python, "-m", "tulle.verify.probe", *arguments]


@dataclass(frozen=True)
class Wanted:
    """One Pod to be made."""

    pod: str
    node: str
    role: str
    port: int
    containers: tuple[str, ...] = (MAIN,)
    host_network: bool = False
    packets: bool = False
    host_port: int = 0
    """Leads to its port, over TCP and UDP; 0: none does."""


def lab_of(nodes: Sequence[dict[str, Any]]) -> str:
    """The name of the lab on this machine to which the nodes belong; empty if they belong to none."""
    marks = ((node["metadata"].get("annotations") or {}).get(LAB_MARK) for node in nodes)
    return next(filter(None, marks), "")


def choose_image(name: str | None, nodes: Sequence[dict[str, Any]]) -> Image:
    """The given one; else in a lab the machine itself, with this very interpreter; else Tulle's own."""
    if name is None and lab_of(nodes):
        return Image(LAB_IMAGE, sys.executable)
    return Image(name or DEFAULT_IMAGE, "python3")


def wanted(nodes: Sequence[str], own_port: int, host_port: int) -> list[Wanted]:
    """For each node: a Pod of two containers, a second Pod, and one on the host network.

    The first has ``host_port`` on its node, the last listens on ``own_port`` of it.

    Where Tulle is the network, the second Pod has its Services per packet and the others at their sockets;
    to other networks its annotation says nothing.
    """
    pods: list[Wanted] = []
    for number, node in enumerate(nodes, start=1):
        pods += [
            Wanted(f"a-{number}", node, "a", MAIN_PORT, (MAIN, SECOND), host_port=host_port),
            Wanted(f"b-{number}", node, "b", MAIN_PORT, packets=True),
            Wanted(f"host-{number}", node, "host", own_port, host_network=True),
        ]
    return pods


def namespace(name: str) -> dict[str, Any]:
    """A namespace in which host-network Pods and raw sockets are allowed."""
    labels = LABELS | {"pod-security.kubernetes.io/enforce": "privileged"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(want: Wanted, image: Image) -> dict[str, Any]:
    """Placed by ``nodeName``, past the scheduler: the network must hold on tainted and full nodes too."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": want.pod,
            "labels": LABELS | {ROLE: "host" if want.host_network else "pod", POD: want.pod},
            "annotations": _IN_PACKETS if want.packets else {},
        },
        "spec": {
            "nodeName": want.node,
            "hostNetwork": want.host_network,
            "dnsPolicy": "ClusterFirstWithHostNet" if want.host_network else "ClusterFirst",
            "hostname": want.pod,
            "subdomain": SUBDOMAIN,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "containers": [_container(want, name, image) for name in want.containers],
        },
    }


def _container(want: Wanted, name: str, image: Image) -> dict[str, Any]:
    """The kubelet probes the first Pod of a node over HTTP, the others over TCP."""
    port = want.port if name == MAIN else SECOND_PORT
    http = {"httpGet": {"port": port, "path": "/"}}
    action: dict[str, Any] = http if want.role == "a" else {"tcpSocket": {"port": port}}
    return {
        "name": name,
        "image": image.name,
        "imagePullPolicy": "IfNotPresent",
        "command": image.probe("serve", "--name", want.pod, "--port", str(port)),
        "securityContext": {"capabilities": {"add": ["NET_RAW"]}},
        "ports": _ports(want) if name == MAIN else [],
        "readinessProbe": action | {"periodSeconds": 1, "timeoutSeconds": 1},
        "resources": {"requests": {"cpu": "5m", "memory": "24Mi"}},
    }


def _ports(want: Wanted) -> list[dict[str, Any]]:
    """None that a host-network Pod declares: the scheduler would reserve it on the node."""
    if want.host_network:
        return []
    named: dict[str, Any] = {"name": PORT_NAME, "containerPort": want.port}
    if not want.host_port:
        return [named]
    datagrams = {"name": f"{PORT_NAME}-udp", "containerPort": want.port, "protocol": "UDP"}
    return [each | {"hostPort": want.host_port} for each in (named, datagrams)]
