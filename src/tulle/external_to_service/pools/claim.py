"""What a Service asks for, and which Services may have one address together."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from tulle.model.address import Address
from tulle.model.balancing import BalancedService, FullMeta
from tulle.model.services import FAMILIES

CLASS = "tulle.dev/lb"
"""Our ``loadBalancerClass``."""
ADDRESSES = "tulle.dev/load-balancer-ips"
"""Annotation: the addresses asked for, divided by commas; it stands over ``spec.loadBalancerIP``."""
SHARE = "tulle.dev/share-ip"
"""Annotation: Services with the same text may have one address together."""


@dataclass(frozen=True, slots=True)
class Claim:
    """``versions``: the IP families (4, 6) in order. ``requested``: at most one of each, unless ``flaw`` says
    what is wrong with the request. ``published``: the addresses in the Service's status.
    """

    key: tuple[str, str]
    uid: str
    age: tuple[str, str]
    versions: tuple[int, ...]
    needs_all: bool
    requested: tuple[Address, ...]
    flaw: str
    share: str
    ports: frozenset[tuple[str, int]]
    local: bool
    selector: frozenset[tuple[str, str]]
    published: tuple[Address, ...]

    @property
    def name(self) -> str:
        """``namespace/name``."""
        return "/".join(self.key)

    def may_share_with(self, other: Claim) -> bool:
        """Both must say so, with other ports, and traffic must find endpoints of both where it enters.

        Where policies are ``Cluster`` it does; else only when both have the very same Pods. (MetalLB has the
        same rule, so that Services can move from there.)
        """
        same_key = bool(self.share) and self.share == other.share
        same_pods = bool(self.selector) and self.selector == other.selector
        anywhere = not self.local and not other.local
        return same_key and self.ports.isdisjoint(other.ports) and (anywhere or same_pods)


def is_ours(service: BalancedService, require_class: bool) -> bool:
    """Whether we give it an address: by its class, or because it has none and we take those, too."""
    name = service.spec.load_balancer_class
    wanted = name == CLASS or (not name and not require_class)
    return service.spec.type == "LoadBalancer" and wanted


def claim_of(service: BalancedService) -> Claim:
    """Never raises: what cannot be right about a request is in ``flaw``."""
    spec, annotations = service.spec, service.metadata.annotations or {}
    versions = tuple(FAMILIES[family] for family in spec.ip_families or ("IPv4",) if family in FAMILIES)
    requested, flaw = _requested(service.metadata, spec.load_balancer_ip)
    return Claim(
        key=service.metadata.key,
        uid=service.metadata.uid,
        age=service.metadata.age,
        versions=versions,
        needs_all=spec.ip_family_policy == "RequireDualStack",
        requested=requested,
        flaw=flaw or _unfit(requested, versions),
        share=annotations.get(SHARE, ""),
        ports=frozenset((port.protocol, port.port) for port in spec.ports or ()),
        local=spec.external_traffic_policy == "Local",
        selector=frozenset((spec.selector or {}).items()),
        published=published(service),
    )


def published(service: BalancedService) -> tuple[Address, ...]:
    """The addresses in its status; what is none there is not ours."""
    found = [read(point.ip) for point in service.status.load_balancer.ingress or () if point.ip]
    return tuple(address for address in found if address is not None)


def _requested(meta: FullMeta, field: str) -> tuple[tuple[Address, ...], str]:
    """What is asked for, and what is wrong with it."""
    text = (meta.annotations or {}).get(ADDRESSES, "")
    place = f"annotation {ADDRESSES}" if text.strip() else "spec.loadBalancerIP"
    parts = [part.strip() for part in (text if text.strip() else field).split(",") if part.strip()]
    found: list[Address] = []
    for part in parts:
        if (address := read(part)) is None:
            return (), f"{place}: {part!r} is no IP address"
        found.append(address)
    if len({address.version for address in found}) < len(found):
        return tuple(found), f"{place}: at most one address of each family can be asked for"
    return tuple(found), ""


def _unfit(requested: tuple[Address, ...], versions: tuple[int, ...]) -> str:
    for address in requested:
        if address.version not in versions:
            has = " and ".join(f"IPv{version}" for version in versions)
            return f"{address} is asked for, but spec.ipFamilies has only {has}"
    return ""


def read(text: str) -> Address | None:
    """None where it is no address."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None
