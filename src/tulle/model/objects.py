"""Kubernetes objects, with only the fields that Tulle reads.

Unknown fields are skipped while decoding, so a newer API server changes nothing here, and an informer
holds no more than these fields in memory.
"""

from __future__ import annotations

import msgspec


class ObjectMeta(msgspec.Struct, frozen=True, rename="camel"):
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


class NodeSpec(msgspec.Struct, frozen=True):
    """``pod_cidrs`` holds at most one prefix per family (N-14)."""

    pod_cidrs: tuple[str, ...] = msgspec.field(name="podCIDRs", default=())


class NodeStatus(msgspec.Struct, frozen=True):
    """What the kubelet says of its node."""

    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Node(msgspec.Struct, frozen=True):
    """A v1 Node."""

    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()
