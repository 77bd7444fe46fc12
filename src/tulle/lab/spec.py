"""What a lab looks like, computed from what was asked for. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final, Literal

import msgspec

from tulle.errors import ConfigError
from tulle.model.address import Address, Interface, Network

Family = Literal["ipv4", "ipv6"]
ROUTING: Final = ("auto", "native", "overlay")
MOST_NODES: Final = 100
CLUSTER_DOMAIN: Final = "cluster.local"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?")  # short: unix sockets live below a folder of it
_SMALLEST_MTU: Final = 1280  # of IPv6, RFC 8200 section 5
_FIRST_HOST: Final = 10
_BALANCED: Final = (200, 249)
"""The first and the last host on the first subnet that is no node's, but for LoadBalancers."""
_DNS: Final = 10
"""Which address of each Service CIDR is the cluster DNS: by custom the tenth."""


class Spec(msgspec.Struct, frozen=True):
    """What the user asks for. ``families`` are in order: the first is the primary one."""

    name: str = "default"
    nodes: int = 3
    zones: int = 2
    subnets: int = 1
    families: tuple[Family, ...] = ("ipv4", "ipv6")
    routing: str = "auto"
    mtu: int = 1500

    def checked(self) -> Spec:
        """Itself. Raises ``ConfigError`` naming the first flag that cannot be right."""
        rules = [
            (_NAME.fullmatch(self.name), "--name", self.name, "1 to 16 of a-z, 0-9 and inner dashes"),
            (1 <= self.nodes <= MOST_NODES, "--nodes", self.nodes, f"1 to {MOST_NODES}"),
            (1 <= self.zones <= 26, "--zones", self.zones, "1 to 26"),
            (1 <= self.subnets <= self.nodes, "--subnets", self.subnets, "1 up to the number of nodes"),
            (self.routing in ROUTING, "--routing", self.routing, " or ".join(ROUTING)),
            (_SMALLEST_MTU <= self.mtu <= 65535, "--mtu", self.mtu, f"{_SMALLEST_MTU} to 65535 bytes"),
        ]
        for right, flag, value, advice in rules:
            if not right:
                raise ConfigError(f"{flag} {value!r} cannot be right; give {advice}")
        return self


def parse_families(text: str) -> tuple[Family, ...]:
    """``ipv4,ipv6`` and the like. Raises ``ConfigError``."""
    families = tuple(part.strip() for part in text.split(","))
    if sorted(families) not in (["ipv4"], ["ipv6"], ["ipv4", "ipv6"]):
        raise ConfigError(
            f"--ip-families {text!r} cannot be right; give ipv4,ipv6 or ipv6,ipv4 or ipv4 or ipv6"
        )
    return msgspec.convert(families, tuple[Family, ...])


@dataclass(frozen=True, slots=True)
class _Plan:
    """The networks of one family. ``subnets`` and ``pods`` are cut into pieces of length ``piece``."""

    subnets: Network
    pods: Network
    piece: int
    services: Network
    world: Interface
    far: Interface

    def subnet(self, number: int) -> Network:
        return self._cut(self.subnets, number)

    def pod_cidr(self, number: int) -> Network:
        return self._cut(self.pods, number)

    def _cut(self, whole: Network, number: int) -> Network:
        offset = number << (whole.max_prefixlen - self.piece)
        return ip_network((int(whole.network_address) + offset, self.piece))


_PLANS: Final[dict[Family, _Plan]] = {
    "ipv4": _Plan(
        ip_network("172.30.0.0/16"),
        ip_network("10.244.0.0/16"),
        24,
        ip_network("10.96.0.0/16"),
        ip_interface("203.0.113.10/24"),
        ip_interface("8.8.8.8/32"),
    ),
    "ipv6": _Plan(
        ip_network("fd00:172:30::/48"),
        ip_network("fd00:10:244::/48"),
        64,
        ip_network("fd00:10:96::/112"),
        ip_interface("2001:db8:ffff::10/64"),
        ip_interface("2001:4860:4860::8888/128"),
    ),
}


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace with an ``eth0`` on one of the underlay's bridges; *world*, or a node.

    ``addresses`` come one per family, the primary first; ``far`` are on its loopback device.
    """

    name: str
    bridge: str
    addresses: tuple[Interface, ...]
    far: tuple[Interface, ...] = ()
    zone: str = ""
    pod_cidrs: tuple[Network, ...] = ()

    @property
    def gateways(self) -> tuple[Interface, ...]:
        """The router's addresses on the host's subnet: the first of each."""
        return tuple(ip_interface((int(a.network[1]), a.network.prefixlen)) for a in self.addresses)


@dataclass(frozen=True, slots=True)
class Topology:
    """All hosts of a lab, and the addresses at which the underlay's router offers the API server.

    ``services`` are the Service CIDRs, and ``dns`` the addresses in them at which each node answers names.
    ``balanced`` are ranges on the first subnet, one per family, from which LoadBalancers get their addresses.
    """

    nodes: tuple[Host, ...]
    world: Host
    api: tuple[Address, ...]
    services: tuple[Network, ...]
    dns: tuple[Address, ...]
    balanced: tuple[str, ...]
    mtu: int

    @property
    def hosts(self) -> tuple[Host, ...]:
        return (*self.nodes, self.world)


def topology(spec: Spec) -> Topology:
    """Nodes are dealt out to zones and subnets in turn."""
    plans = [_PLANS[family] for family in spec.families]
    world = Host("world", "outside", tuple(p.world for p in plans), tuple(p.far for p in plans))
    return Topology(
        nodes=tuple(_node(plans, spec, number) for number in range(1, spec.nodes + 1)),
        world=world,
        api=tuple(ip_address(int(p.subnet(0)[1])) for p in plans),
        services=tuple(p.services for p in plans),
        dns=tuple(p.services[_DNS] for p in plans),
        balanced=tuple("-".join(str(p.subnet(1)[number]) for number in _BALANCED) for p in plans),
        mtu=spec.mtu,
    )


def _node(plans: list[_Plan], spec: Spec, number: int) -> Host:
    subnet = (number - 1) % spec.subnets + 1
    return Host(
        name=f"node-{number}",
        bridge=f"subnet-{subnet}",
        addresses=tuple(_address(plan.subnet(subnet), _FIRST_HOST + number) for plan in plans),
        zone=f"zone-{chr(ord('a') + (number - 1) % spec.zones)}",
        pod_cidrs=tuple(plan.pod_cidr(number) for plan in plans),
    )


def _address(network: Network, number: int) -> Interface:
    return ip_interface((int(network[number]), network.prefixlen))
