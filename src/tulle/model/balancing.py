"""LoadBalancerPools, and Services as whoever gives them addresses sees them, with only the fields in use.

The nodes' agents hold ``services.Service``, which has less: only `tulle controller` reads labels,
annotations, finalizers and versions.
"""

from __future__ import annotations

import msgspec

from tulle.model.selectors import LabelSelector
from tulle.model.services import LoadBalancerStatus, ServicePort


class FullMeta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``metadata``, with what a controller needs to order, change and release an object."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: tuple[str, ...] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.name

    @property
    def age(self) -> tuple[str, str]:
        """Sorts the oldest first; who is of the same second is told apart by uid."""
        return self.creation_timestamp, self.uid


class FullCondition(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A ``metav1.Condition``. ``status`` is True, False or Unknown."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class BalancedSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What a Service asks of a load balancer."""

    type: str = "ClusterIP"
    ports: tuple[ServicePort, ...] | None = None
    selector: dict[str, str] | None = None
    ip_families: tuple[str, ...] | None = None
    ip_family_policy: str | None = None
    external_traffic_policy: str | None = None
    load_balancer_class: str | None = None
    load_balancer_ip: str = msgspec.field(name="loadBalancerIP", default="")
    external_ips: tuple[str, ...] | None = msgspec.field(name="externalIPs", default=None)


class BalancedStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``status`` of a Service."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[FullCondition, ...] | None = None


class BalancedService(msgspec.Struct, frozen=True, gc=False):
    """A v1 Service."""

    metadata: FullMeta
    spec: BalancedSpec = BalancedSpec()
    status: BalancedStatus = BalancedStatus()


class PoolSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``addresses``: CIDRs, ranges, or single addresses, as written."""

    addresses: tuple[str, ...] | None = None
    service_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    default: bool = False


class FamilyCount(msgspec.Struct, frozen=True, gc=False):
    """How many addresses of one family there are, and how many Services have."""

    total: int = 0
    assigned: int = 0


class PoolObjectStatus(msgspec.Struct, frozen=True, gc=False):
    """``status`` of a LoadBalancerPool."""

    conditions: tuple[FullCondition, ...] | None = None
    ipv4: FamilyCount = FamilyCount()
    ipv6: FamilyCount = FamilyCount()


class LoadBalancerPool(msgspec.Struct, frozen=True, gc=False):
    """A tulle.dev/v1 LoadBalancerPool."""

    metadata: FullMeta
    spec: PoolSpec = PoolSpec()
    status: PoolObjectStatus = PoolObjectStatus()


def condition_of(found: tuple[FullCondition, ...] | None, kind: str) -> FullCondition | None:
    """The condition of that type, if there is one."""
    return next((each for each in found or () if each.type == kind), None)
