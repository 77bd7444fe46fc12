"""What a Service asks for, with the defaults filled in and without what cannot be right. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tulle.model.address import Network, parse_network_lenient
from tulle.model.services import Service
from tulle.pod_to_service.addresses import family_of, read_address
from tulle.pod_to_service.categorize import Policy
from tulle.pod_to_service.plan import PROTOCOLS, Problem

TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
POLICIES = ("Cluster", "Local")
DEFAULT_AFFINITY, MAX_AFFINITY = 10800, 86400
"""Seconds (S-60)."""


class AskedPort(NamedTuple):
    """One of ``spec.ports``; ``protocol`` as in an IP header, ``node_port`` 0 where there is none."""

    name: str
    port: int
    protocol: int
    node_port: int


class Asked(NamedTuple):
    """Addresses as 16 bytes. ``cluster_ips`` by family, the primary one first: at most one each (S-17).

    ``vips`` are a load balancer's addresses, if it leaves them to the nodes (S-24). ``sources``: by family,
    who may use these (S-61); all may where there is none. ``affinity`` in seconds, 0 for none (S-60).
    """

    cluster_ips: dict[int, bytes]
    vips: tuple[bytes, ...]
    external_ips: tuple[bytes, ...]
    sources: dict[int, tuple[Network, ...]]
    ports: tuple[AskedPort, ...]
    affinity: int
    internal_local: bool
    external_local: bool

    def policy(self, port: AskedPort, family: int) -> Policy:
        """What decides about the endpoints of this port (S-30)."""
        outside = any(family_of(address) == family for address in (*self.vips, *self.external_ips))
        return Policy(self.internal_local, self.external_local, port.node_port != 0 or outside)


def is_ours(service: Service) -> bool:
    """Whether there is anything to do for it (S-01, S-02). The label of S-03 counts on a Service, too."""
    labels, spec = service.metadata.labels, service.spec
    if labels and (labels.proxy_name is not None or labels.headless is not None):
        return False
    return spec.type != "ExternalName" and spec.cluster_ip not in ("", "None")


def read_service(service: Service, problems: list[Problem]) -> Asked:
    """Adds to ``problems`` what was left out. ``service`` is one of ours."""
    reader = _Reader(service, problems)
    spec = service.spec
    reader.word("type", spec.type, TYPES)
    return Asked(
        cluster_ips=reader.cluster_ips(),
        vips=reader.vips(),
        external_ips=reader.external_ips(),
        sources=reader.sources(),
        ports=reader.ports(),
        affinity=reader.affinity(),
        internal_local=reader.is_local("internalTrafficPolicy", spec.internal_traffic_policy),
        external_local=reader.is_local("externalTrafficPolicy", spec.external_traffic_policy),
    )


class _Reader:
    """One method for each part of ``spec``; each takes what is right and tells what is not."""

    def __init__(self, service: Service, problems: list[Problem]) -> None:
        self._service = service
        self._spec = service.spec
        self._problems = problems

    def _wrong(self, field: str, message: str) -> None:
        meta = self._service.metadata
        self._problems.append(Problem("Service", (meta.namespace, meta.name), field, message))

    def word(self, field: str, value: str | None, known: tuple[str, ...]) -> str:
        """The first of the known words is the default, also for one that nobody knows (S-74)."""
        if not value:
            return known[0]
        if value not in known:
            self._wrong(f"spec.{field}", f"{value!r} is not {_either(known)}; it is taken for {known[0]}")
            return known[0]
        return value

    def is_local(self, field: str, policy: str | None) -> bool:
        return self.word(field, policy, POLICIES) == "Local"

    def cluster_ips(self) -> dict[int, bytes]:
        """The address itself says its family, whatever ``ipFamilies`` says."""
        found: dict[int, bytes] = {}
        for index, text in enumerate(self._spec.cluster_ips or (self._spec.cluster_ip,)):
            address, wrong = read_address(text)
            family = family_of(address)
            if not wrong and family in found:
                wrong = f"{text!r} is the second IPv{family} address; one of each family is right"
            if wrong:
                self._wrong(f"spec.clusterIPs[{index}]", wrong)
            else:
                found[family] = address
        return found

    def vips(self) -> tuple[bytes, ...]:
        """Of ``ipMode`` Proxy, what is sent to the address leaves the node for the load balancer."""
        ingresses = self._service.status.load_balancer.ingress or ()
        return self._addresses(
            [
                (f"status.loadBalancer.ingress[{index}].ip", ingress.ip)
                for index, ingress in enumerate(ingresses)
                if ingress.ip and ingress.ip_mode in (None, "VIP")
            ]
        )

    def external_ips(self) -> tuple[bytes, ...]:
        asked = self._spec.external_ips or ()
        return self._addresses([(f"spec.externalIPs[{index}]", text) for index, text in enumerate(asked)])

    def _addresses(self, named: Iterable[tuple[str, str]]) -> tuple[bytes, ...]:
        found: dict[bytes, None] = {}
        for field, text in named:
            address, wrong = read_address(text)
            if wrong:
                self._wrong(field, wrong)
            else:
                found[address] = None
        return tuple(found)

    def sources(self) -> dict[int, tuple[Network, ...]]:
        """Sorted. A family that nobody spoke of is open, as is one with a ``/0`` (S-17, S-61); but where no
        range at all could be read, nobody is let in.
        """
        ranges = self._spec.load_balancer_source_ranges or ()
        found: dict[int, set[Network]] = {}
        for index, text in enumerate(ranges):
            network = parse_network_lenient(text)
            if network is None:
                field = f"spec.loadBalancerSourceRanges[{index}]"
                self._wrong(field, f"{text!r} is no CIDR, such as 10.0.0.0/8; it lets nobody in")
            else:
                found.setdefault(network.version, set()).add(network)
        if ranges and not found:
            return {4: (), 6: ()}
        return {
            family: tuple(sorted(networks, key=str))
            for family, networks in found.items()
            if all(network.prefixlen for network in networks)
        }

    def ports(self) -> tuple[AskedPort, ...]:
        """Names and numbers are unique in each protocol (S-26): what comes second is left out."""
        found: list[AskedPort] = []
        for index, port in enumerate(self._spec.ports or ()):
            field = f"spec.ports[{index}]"
            protocol = PROTOCOLS.get(port.protocol or "TCP")
            if protocol is None:
                self._wrong(f"{field}.protocol", f"{port.protocol!r} is not {_either(tuple(PROTOCOLS))}")
            elif not 0 < port.port < 65536:
                self._wrong(f"{field}.port", f"{port.port} is not a number from 1 to 65535")
            elif any(protocol == p.protocol and (port.port == p.port or port.name == p.name) for p in found):
                said = f"{port.name!r} {port.protocol} {port.port}"
                self._wrong(field, f"{said} has the name or the number of a port before it; both are unique")
            else:
                found.append(
                    AskedPort(port.name, port.port, protocol, self._node_port(field, port.node_port))
                )
        return tuple(found)

    def _node_port(self, field: str, number: int) -> int:
        """0 where there is none (S-25)."""
        if 0 <= number < 65536:
            return number
        self._wrong(f"{field}.nodePort", f"{number} is not a number from 1 to 65535; there is no node port")
        return 0

    def affinity(self) -> int:
        spec = self._spec
        if self.word("sessionAffinity", spec.session_affinity, ("None", "ClientIP")) == "None":
            return 0
        config = spec.session_affinity_config
        seconds = config.client_ip.timeout_seconds if config and config.client_ip else None
        if seconds is None:
            return DEFAULT_AFFINITY
        if not 0 < seconds <= MAX_AFFINITY:
            field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
            self._wrong(
                field, f"{seconds} is not from 1 to {MAX_AFFINITY}; it is taken for {DEFAULT_AFFINITY}"
            )
            return DEFAULT_AFFINITY
        return seconds


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
