"""What Kubernetes promises of its network, sentence by sentence.

The network model (BEHAVIOURS N-01 to N-07, N-20), Services (S-20 to S-60, N-09), what comes from outside
(S-21 to S-24, S-40 to S-48, S-60 to S-62, N-10), names (D-02 to D-24).
"""

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
    "endpoints": "EndpointSlices list the ready Pods of a Service, and nobody else",
    "service": "Every Pod and every node reaches Services at their addresses",
    "service-endpoints": "A Service leads to each of its endpoints, and to nobody else",
    "hairpin": "Pods reach themselves through a Service",
    "service-shown": "Clients of a Service are shown its address",
    "service-source": "The endpoints of a Service see the client by its own IP",
    "affinity": "Session affinity keeps a client at one endpoint",
    "local": "A Service with internalTrafficPolicy Local stays on the node",
    "refusal": "No endpoint, or an undefined port: Services refuse at once",
    "node-port": "A NodePort is reached at every node, from inside and outside",
    "node-port-endpoints": "A NodePort leads to each of its endpoints, and to nobody else",
    "external-local": "externalTrafficPolicy Local: from elsewhere, only the node's own endpoints are met",
    "external-short": "externalTrafficPolicy Local: from the node itself, all endpoints are met",
    "external-source": "externalTrafficPolicy Local, hostPorts: the client is seen by its own IP",
    "external-affinity": "Session affinity keeps a client of a NodePort at one endpoint",
    "external-refusal": "A NodePort of a Service without endpoints refuses at once",
    "health-port": "A healthCheckNodePort tells on which nodes a Service has endpoints",
    "load-balancer": "A load balancer's address leads to the endpoints",
    "source-ranges": "loadBalancerSourceRanges let in whom they name, and nobody else",
    "external-ip": "An external IP leads to the endpoints",
    "host-port": "A hostPort leads to its Pod, from inside and outside",
    "name-service": "The name of a Service leads to its addresses",
    "name-headless": "A headless name leads to all endpoints, and each has its own",
    "name-srv": "Named ports have SRV records",
    "name-ptr": "Addresses lead back to names",
    "name-external": "The name of an ExternalName Service leads to another name",
    "name-missing": "A name that does not exist is denied at once",
    "name-library": "The resolver library finds full names, and short ones too",
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
