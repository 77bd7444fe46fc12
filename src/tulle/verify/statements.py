"""The Kubernetes network model, sentence by sentence (BEHAVIOURS N-01 to N-07, N-20)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Family = Literal["IPv4", "IPv6"]
Protocol = Literal["tcp", "udp", "icmp", "tcp-large", "udp-large"]

FAMILIES: Final[tuple[Family, ...]] = ("IPv4", "IPv6")

STATEMENTS: Final = {
    "ready": "Every Pod starts, and the kubelet's probes reach it",
    "own-ip": "Every Pod has an IP of its own, and sees it on its own interface",
    "one-pod": "The containers of a Pod share its IP and its MAC address",
    "localhost": "The containers of a Pod reach each other on localhost",
    "ports": "The containers of a Pod collide on a port",
    "pod-to-pod-same-node": "Pods reach all Pods of their node, seen with their own IP",
    "pod-to-pod": "Pods reach all Pods of other nodes, seen with their own IP",
    "node-to-pod": "Agents on a node reach all Pods of that node",
    "host-to-pod": "Host-network Pods reach all Pods of other nodes without NAT",
    "pod-to-host": "Pods reach the host-network Pods of all nodes",
}


@dataclass(frozen=True)
class Traffic:
    """What one check sends: the probe's ``kind``, and a payload of ``size`` bytes."""

    kind: str
    size: int


TRAFFIC: Final[dict[Protocol, Traffic]] = {
    "tcp": Traffic("tcp", 64),
    "udp": Traffic("udp", 64),
    "icmp": Traffic("icmp", 0),
    "tcp-large": Traffic("tcp", 256 * 1024),
    # More than a jumbo frame of 9001 bytes, so that it is sent in fragments everywhere.
    "udp-large": Traffic("udp", 10_000),
}
