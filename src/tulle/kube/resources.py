"""Which resources there are: their paths, and the types that their objects are decoded to."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from sys import intern
from typing import Any, Generic, TypeVar

import msgspec

from tulle.model.announcing import AnnouncedPool, Lease
from tulle.model.balancing import BalancedService, LoadBalancerPool
from tulle.model.bgp import BGPPeer
from tulle.model.objects import ConfigMap, Namespace, Node, Pod
from tulle.model.services import EndpointSlice, Service, ServiceCIDR

log = logging.getLogger(__name__)

T = TypeVar("T")
Key = tuple[str, str]
"""(namespace, name); the namespace is empty for what belongs to the whole cluster."""


@dataclass(frozen=True)
class Resource(Generic[T]):
    """A collection of the API. ``type`` is a msgspec Struct with just the fields in use, or a dict.

    A Struct is for reading; an object that was decoded to one must not be written back with ``replace``,
    as the fields that it does not name would be lost (``patch`` is safe).
    """

    group: str
    version: str
    plural: str
    kind: str
    type: type[T]
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of one object or of the collection; without ``namespace``, that of all namespaces."""
        parts = ["/apis", self.group] if self.group else ["/api"]
        parts.append(self.version)
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        return "/".join([*parts, name] if name else parts)


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One object as it came; ``value`` is None if it could not be decoded."""

    key: Key
    version: str
    value: T | None


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Anything(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


def decode_bookmark(raw: msgspec.Raw) -> Item[T]:
    """A bookmark says how far the watch is; it has a resourceVersion and nothing else."""
    metadata = msgspec.json.decode(raw, type=_Anything).metadata
    return Item(("", ""), metadata.resource_version, None)


def decode_item(resource: Resource[T], raw: msgspec.Raw) -> Item[T]:
    """An object that does not fit ``resource.type`` is logged with its name, and has no value."""
    metadata = msgspec.json.decode(raw, type=_Anything).metadata
    key = (intern(metadata.namespace), metadata.name)
    try:
        value = msgspec.json.decode(raw, type=resource.type)
    except msgspec.ValidationError as error:
        name = "/".join(filter(None, key))
        log.warning("%s %s cannot be used and is left out: %s", resource.kind, name, error)
        return Item(key, metadata.resource_version, None)
    return Item(key, metadata.resource_version, value)


Untyped = dict[str, Any]


def _untyped(group: str, version: str, plural: str, kind: str, namespaced: bool = True) -> Resource[Untyped]:
    return Resource(group, version, plural, kind, Untyped, namespaced)


NODE = Resource("", "v1", "nodes", "Node", Node, namespaced=False)
NAMESPACE = Resource("", "v1", "namespaces", "Namespace", Namespace, namespaced=False)
POD = Resource("", "v1", "pods", "Pod", Pod)
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap", ConfigMap)
BGP_PEER = Resource("tulle.dev", "v1", "bgppeers", "BGPPeer", BGPPeer, namespaced=False)
SERVICE = Resource("", "v1", "services", "Service", Service)
ENDPOINT_SLICE = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", EndpointSlice)
SERVICE_CIDR = Resource(
    "networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", ServiceCIDR, namespaced=False
)
LEASE = Resource("coordination.k8s.io", "v1", "leases", "Lease", Lease)
ANNOUNCED_POOL = Resource(
    "tulle.dev", "v1", "loadbalancerpools", "LoadBalancerPool", AnnouncedPool, namespaced=False
)
LOAD_BALANCER_POOL = Resource(
    "tulle.dev", "v1", "loadbalancerpools", "LoadBalancerPool", LoadBalancerPool, namespaced=False
)
BALANCED_SERVICE = Resource("", "v1", "services", "Service", BalancedService)

NAMESPACES = _untyped("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = _untyped("", "v1", "nodes", "Node", namespaced=False)
PODS = _untyped("", "v1", "pods", "Pod")
SERVICES = _untyped("", "v1", "services", "Service")
ENDPOINTS = _untyped("", "v1", "endpoints", "Endpoints")
ENDPOINTSLICES = _untyped("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
CONFIGMAPS = _untyped("", "v1", "configmaps", "ConfigMap")
SECRETS = _untyped("", "v1", "secrets", "Secret")
SERVICEACCOUNTS = _untyped("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS = _untyped("", "v1", "events", "Event")
LEASES = _untyped("coordination.k8s.io", "v1", "leases", "Lease")
LOAD_BALANCER_POOLS = _untyped("tulle.dev", "v1", "loadbalancerpools", "LoadBalancerPool", namespaced=False)
CUSTOM_RESOURCE_DEFINITIONS = _untyped(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
DEPLOYMENTS = _untyped("apps", "v1", "deployments", "Deployment")
REPLICASETS = _untyped("apps", "v1", "replicasets", "ReplicaSet")
DAEMONSETS = _untyped("apps", "v1", "daemonsets", "DaemonSet")
