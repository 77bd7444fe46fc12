"""What a Service asks for, with the defaults filled in and without what cannot be right. Pure."""

from __future__ import annotations

from typing import NamedTuple

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

    ``external_ips`` are those that lead here from outside: ``externalIPs``, and those of a load balancer
    that leaves them to the nodes (S-23, S-24). ``affinity`` in seconds, 0 for none (S-60).
    """

    cluster_ips: dict[int, bytes]
    external_ips: tuple[bytes, ...]
    ports: tuple[AskedPort, ...]
    affinity: int
    internal_local: bool
    external_local: bool

    def policy(self, port: AskedPort, family: int) -> Policy:
        """What decides about the endpoints of this port (S-30)."""
        outside = any(family_of(address) == family for address in self.external_ips)
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
        external_ips=reader.external_ips(),
        ports=reader.ports(),
        affinity=reader.affinity(),
        internal_local=reader.is_local("internalTrafficPolicy", spec.internal_traffic_policy),
        external_local=reader.is_local("externalTrafficPolicy", spec.external_traffic_policy),
    )


def addresses_of(service: Service) -> tuple[bytes, ...]:
    """The addresses that a Service has inside the cluster; none if it is not ours."""
    return tuple(_Reader(service, []).cluster_ips().values()) if is_ours(service) else ()


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

    def external_ips(self) -> tuple[bytes, ...]:
        named = [(f"spec.externalIPs[{i}]", text) for i, text in enumerate(self._spec.external_ips or ())]
        for index, ingress in enumerate(self._service.status.load_balancer.ingress or ()):
            if ingress.ip and ingress.ip_mode in (None, "VIP"):
                named.append((f"status.loadBalancer.ingress[{index}].ip", ingress.ip))
        found: dict[bytes, None] = {}
        for field, text in named:
            address, wrong = read_address(text)
            if wrong:
                self._wrong(field, wrong)
            else:
                found[address] = None
        return tuple(found)

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
                found.append(AskedPort(port.name, port.port, protocol, port.node_port))
        return tuple(found)

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
