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


def choose_image(name: str | None, nodes: Sequence[dict[str, Any]]) -> Image:
    """The given one; else in a lab the machine itself, with this very interpreter; else Tulle's own."""
    if name is None and any(LAB_MARK in (node["metadata"].get("annotations") or {}) for node in nodes):
        return Image(LAB_IMAGE, sys.executable)
    return Image(name or DEFAULT_IMAGE, "python3")


def wanted(nodes: Sequence[str], host_port: int) -> list[Wanted]:
    """For each node: a Pod of two containers, a second Pod, and one on the host network.

    Where Tulle is the network, the second Pod has its Services per packet and the others at their sockets;
    to other networks its annotation says nothing.
    """
    pods: list[Wanted] = []
    for number, node in enumerate(nodes, start=1):
        pods += [
            Wanted(f"a-{number}", node, "a", MAIN_PORT, (MAIN, SECOND)),
            Wanted(f"b-{number}", node, "b", MAIN_PORT, packets=True),
            Wanted(f"host-{number}", node, "host", host_port, host_network=True),
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
            "labels": LABELS | {ROLE: "host" if want.host_network else "pod"},
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
    # A port that a host-network Pod declares would be one that the scheduler reserves on the node.
    named = name == MAIN and not want.host_network
    return {
        "name": name,
        "image": image.name,
        "imagePullPolicy": "IfNotPresent",
        "command": image.probe("serve", "--name", want.pod, "--port", str(port)),
        "securityContext": {"capabilities": {"add": ["NET_RAW"]}},
        "ports": [{"name": PORT_NAME, "containerPort": port}] if named else [],
        "readinessProbe": action | {"periodSeconds": 1, "timeoutSeconds": 1},
        "resources": {"requests": {"cpu": "5m", "memory": "24Mi"}},
    }
