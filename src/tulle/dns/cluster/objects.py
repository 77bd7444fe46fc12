"""A Service with only what DNS reads.

DNS holds every Service of a cluster, but of each much less than the data path (``model.services``): in a
cluster of 10,000 that is five megabytes of the sixty that the process may have.
"""

from __future__ import annotations

from sys import intern

import msgspec
from msgspec.structs import force_setattr

from tulle.kube.resources import SERVICE, Resource


class ServiceMeta(msgspec.Struct, frozen=True, gc=False):
    """``metadata`` of a Service."""

    name: str
    namespace: str = ""

    def __post_init__(self) -> None:
        """A namespace's name is in memory once."""
        force_setattr(self, "namespace", intern(self.namespace))


class ServicePort(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One of ``spec.ports``."""

    port: int = 0
    name: str = ""
    protocol: str = "TCP"

    def __post_init__(self) -> None:
        """Most ports are called alike."""
        force_setattr(self, "name", intern(self.name))
        force_setattr(self, "protocol", intern(self.protocol))


class ServiceSpec(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """``cluster_ip`` is ``None`` (the word) for a headless Service."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] | None = msgspec.field(name="clusterIPs", default=None)
    ports: tuple[ServicePort, ...] | None = None
    external_name: str = ""

    def __post_init__(self) -> None:
        """The first of ``clusterIPs`` is ``clusterIP``."""
        force_setattr(self, "type", intern(self.type))
        if self.cluster_ips and self.cluster_ips[0] == self.cluster_ip:
            force_setattr(self, "cluster_ip", self.cluster_ips[0])


class Service(msgspec.Struct, frozen=True, gc=False):
    """A v1 Service."""

    metadata: ServiceMeta
    spec: ServiceSpec = ServiceSpec()


SERVICES: Resource[Service] = Resource(SERVICE.group, SERVICE.version, SERVICE.plural, SERVICE.kind, Service)
