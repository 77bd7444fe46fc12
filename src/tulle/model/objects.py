"""Kubernetes objects, with only the fields that Tulle reads.

Unknown fields are skipped while decoding, so a newer API server changes nothing here, and an informer
holds no more than these fields in memory. Services and their endpoints: ``services``.
"""

from __future__ import annotations

import msgspec


class ObjectMeta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``metadata`` of every object; ``namespace`` is empty for what belongs to the whole cluster."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None


class NodeAddress(msgspec.Struct, frozen=True):
    """One of ``status.addresses``; ``type`` is InternalIP, ExternalIP, Hostname, …"""

    type: str
    address: str


class Condition(msgspec.Struct, frozen=True):
    """One of ``status.conditions``; ``status`` is True, False or Unknown."""

    type: str
    status: str
    reason: str = ""


class Taint(msgspec.Struct, frozen=True):
    """One of ``spec.taints``."""

    key: str = ""


class NodeSpec(msgspec.Struct, frozen=True):
    """``pod_cidrs`` holds at most one prefix per family (N-14)."""

    pod_cidrs: tuple[str, ...] = msgspec.field(name="podCIDRs", default=())
    taints: tuple[Taint, ...] = ()


class NodeStatus(msgspec.Struct, frozen=True):
    """What the kubelet says of its node."""

    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Node(msgspec.Struct, frozen=True):
    """A v1 Node."""

    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class PodIP(msgspec.Struct, frozen=True, gc=False):
    """One of ``status.podIPs``."""

    ip: str = ""


class ContainerPort(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``host_port`` is 0 where the node has no port for it; ``host_ip`` is as it was written."""

    container_port: int
    host_port: int = 0
    protocol: str = "TCP"
    host_ip: str = msgspec.field(name="hostIP", default="")


class Container(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``restart_policy`` Always makes a sidecar of an init container."""

    ports: tuple[ContainerPort, ...] | None = None
    restart_policy: str = ""


class PodSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``node_name`` is empty until the Pod is scheduled."""

    node_name: str = ""
    host_network: bool = False
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] | None = None


class PodStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``phase`` is Pending, Running, Succeeded, Failed or Unknown."""

    phase: str = ""
    pod_ips: tuple[PodIP, ...] | None = msgspec.field(name="podIPs", default=None)


class Pod(msgspec.Struct, frozen=True, gc=False):
    """A v1 Pod."""

    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Namespace(msgspec.Struct, frozen=True, gc=False):
    """A v1 Namespace."""

    metadata: ObjectMeta


class ConfigMap(msgspec.Struct, frozen=True, gc=False):
    """A v1 ConfigMap; what is not UTF-8 (``binaryData``) is not here."""

    metadata: ObjectMeta
    data: dict[str, str] | None = None
