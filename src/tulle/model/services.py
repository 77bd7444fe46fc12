"""Services, EndpointSlices and ServiceCIDRs, with only the fields that Tulle reads.

A large cluster has tens of thousands of endpoints, and each node holds them all. So these objects carry
neither what nobody reads (most labels, annotations, versions) nor many copies of the same name, and the
garbage collector does not look at them: decoded JSON has no cycles. ``null`` is taken wherever the
API's own types can send it: pointers, lists and maps.
"""

from __future__ import annotations

from sys import intern

import msgspec
from msgspec.structs import force_setattr

from tulle.model.objects import Condition, ObjectMeta

FAMILIES = {"IPv4": 4, "IPv6": 6}
"""The IP versions by the words of ``ipFamilies`` and ``addressType``; FQDN is none (S-05)."""


def share(value: msgspec.Struct, *fields: str) -> None:
    """What many objects say in the same words (namespaces, nodes, policies) is in memory once."""
    for field in fields:
        if text := getattr(value, field):
            force_setattr(value, field, intern(text))


class ServiceLabels(msgspec.Struct, frozen=True, gc=False):
    """The labels of a Service that take it away from us (S-01, S-03); any value does, ``""`` too."""

    proxy_name: str | None = msgspec.field(name="service.kubernetes.io/service-proxy-name", default=None)
    headless: str | None = msgspec.field(name="service.kubernetes.io/headless", default=None)


class ServiceMeta(msgspec.Struct, frozen=True, gc=False):
    """``metadata`` of a Service."""

    name: str
    namespace: str = ""
    uid: str = ""
    labels: ServiceLabels | None = None

    def __post_init__(self) -> None:
        share(self, "namespace")


class ServicePort(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One of ``spec.ports``. ``targetPort`` is not here: the number comes from the slices (S-08)."""

    port: int = 0
    name: str = ""
    protocol: str = "TCP"
    node_port: int = 0

    def __post_init__(self) -> None:
        share(self, "name", "protocol")


class ClientIPConfig(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``timeout_seconds`` is 1 to 86400; without it, 10800 (S-60)."""

    timeout_seconds: int | None = None


class SessionAffinityConfig(msgspec.Struct, frozen=True, gc=False):
    """``spec.sessionAffinityConfig``."""

    client_ip: ClientIPConfig | None = msgspec.field(name="clientIP", default=None)


class ServiceSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What is asked for. ``cluster_ip`` is ``None`` (the word) for a headless Service."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] | None = msgspec.field(name="clusterIPs", default=None)
    ports: tuple[ServicePort, ...] | None = None
    ip_families: tuple[str, ...] | None = None
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: str | None = None
    external_traffic_policy: str | None = None
    external_name: str = ""
    publish_not_ready_addresses: bool = False
    external_ips: tuple[str, ...] | None = msgspec.field(name="externalIPs", default=None)
    load_balancer_source_ranges: tuple[str, ...] | None = None
    health_check_node_port: int = 0
    load_balancer_class: str | None = None

    def __post_init__(self) -> None:
        share(self, "type", "session_affinity", "internal_traffic_policy", "external_traffic_policy")


class Ingress(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One address of a load balancer; ``ip_mode`` is VIP (also without one) or Proxy (S-24)."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str | None = None


class LoadBalancerStatus(msgspec.Struct, frozen=True, gc=False):
    """``status.loadBalancer``."""

    ingress: tuple[Ingress, ...] | None = None


class ServiceStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``status`` of a Service."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[Condition, ...] | None = None


class Service(msgspec.Struct, frozen=True, gc=False):
    """A v1 Service."""

    metadata: ServiceMeta
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class SliceLabels(msgspec.Struct, frozen=True, gc=False):
    """The labels of an EndpointSlice that say whose it is (S-04) and that it is not for us (S-03)."""

    service_name: str | None = msgspec.field(name="kubernetes.io/service-name", default=None)
    headless: str | None = msgspec.field(name="service.kubernetes.io/headless", default=None)
    proxy_name: str | None = msgspec.field(name="service.kubernetes.io/service-proxy-name", default=None)


class SliceAnnotations(msgspec.Struct, frozen=True, gc=False):
    """When what changed a slice happened, as RFC 3339: to measure the time until it counts (D-29)."""

    last_change_trigger_time: str | None = msgspec.field(
        name="endpoints.kubernetes.io/last-change-trigger-time", default=None
    )


class SliceMeta(msgspec.Struct, frozen=True, gc=False):
    """``metadata`` of an EndpointSlice."""

    name: str
    namespace: str = ""
    labels: SliceLabels | None = None
    annotations: SliceAnnotations | None = None

    def __post_init__(self) -> None:
        share(self, "namespace")


class EndpointConditions(msgspec.Struct, frozen=True, gc=False):
    """As sent; what ``None`` means says S-10: ready, serving, and not terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Hint(msgspec.Struct, frozen=True, gc=False):
    """A zone or a node that an endpoint is meant for."""

    name: str = ""


class EndpointHints(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Where an endpoint should be used from (S-12)."""

    for_zones: tuple[Hint, ...] | None = None
    for_nodes: tuple[Hint, ...] | None = None


class TargetRef(msgspec.Struct, frozen=True, gc=False):
    """The object behind an endpoint, as a rule a Pod."""

    kind: str = ""
    name: str = ""
    namespace: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "kind", intern(self.kind))
        force_setattr(self, "namespace", intern(self.namespace))


NO_CONDITIONS = EndpointConditions()
READY = EndpointConditions(ready=True, serving=True, terminating=False)


class Endpoint(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One endpoint of a slice. Only the first of ``addresses`` counts (S-06)."""

    addresses: tuple[str, ...] | None = None
    conditions: EndpointConditions = NO_CONDITIONS
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: EndpointHints | None = None
    target_ref: TargetRef | None = None

    def __post_init__(self) -> None:
        """As ``share``, but in place: there are tens of thousands."""
        if self.node_name:
            force_setattr(self, "node_name", intern(self.node_name))
        if self.zone:
            force_setattr(self, "zone", intern(self.zone))
        if self.conditions == READY:
            force_setattr(self, "conditions", READY)


class EndpointPort(msgspec.Struct, frozen=True, gc=False):
    """One of ``ports``. What lacks a name or a number is not for us (S-07)."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = "TCP"

    def __post_init__(self) -> None:
        share(self, "name", "protocol")


class EndpointSlice(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A discovery.k8s.io/v1 EndpointSlice; ``address_type`` is IPv4, IPv6 or FQDN."""

    metadata: SliceMeta
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None

    def __post_init__(self) -> None:
        share(self, "address_type")


class ServiceCIDRSpec(msgspec.Struct, frozen=True, gc=False):
    """At most one prefix per family."""

    cidrs: tuple[str, ...] | None = None


class ServiceCIDR(msgspec.Struct, frozen=True, gc=False):
    """A networking.k8s.io/v1 ServiceCIDR: a range that ClusterIPs come from (S-16)."""

    metadata: ObjectMeta
    spec: ServiceCIDRSpec = ServiceCIDRSpec()
