"""Leases and LoadBalancerPools as who announces LoadBalancer IPs reads them: only the fields in use."""

from __future__ import annotations

import msgspec

from tulle.model.objects import ObjectMeta


class LeaseSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """``holder_identity`` is empty, or absent, where nobody holds it."""

    holder_identity: str | None = None
    lease_transitions: int | None = None


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A coordination.k8s.io/v1 Lease. Each write changes its ``resource_version``, and with it the object."""

    metadata: ObjectMeta
    spec: LeaseSpec = LeaseSpec()


class AnnouncedPoolSpec(msgspec.Struct, frozen=True, gc=False):
    """``addresses`` as written; ``announce`` has L2, BGP or both, and both where it is absent."""

    addresses: tuple[str, ...] | None = None
    announce: tuple[str, ...] | None = None


class AnnouncedPool(msgspec.Struct, frozen=True, gc=False):
    """A tulle.dev/v1 LoadBalancerPool."""

    metadata: ObjectMeta
    spec: AnnouncedPoolSpec = AnnouncedPoolSpec()
