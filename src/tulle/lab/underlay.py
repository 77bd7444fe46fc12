"""The wires: a bridge per subnet and one router, all in a namespace of their own.

The router has no route to any Pod CIDR. So a Pod reaches *world* and hears its answer only when its node
masquerades, and Pods of nodes on different subnets only meet through an overlay.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from tulle.errors import LabError
from tulle.kernel import netns, sysctl
from tulle.lab.spec import Host, Topology
from tulle.model.address import Address, Interface

UNDERLAY = "underlay"
_SETTINGS = {
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/default/accept_dad": "0",  # on wires of our own nobody else has the address
    "net/ipv6/conf/default/accept_ra": "0",
}
_FORWARD = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}


def build(topology: Topology, path: Callable[[str], Path]) -> None:
    """Makes all namespaces at ``path(name)`` and joins them. Raises ``KernelError`` or ``LabError``."""
    for name in (UNDERLAY, *(host.name for host in topology.hosts)):
        netns.create(path(name))
        _set(path(name), _SETTINGS if name != UNDERLAY else _SETTINGS | _FORWARD)
    _run(path(UNDERLAY), router_commands(topology, path))
    for host in topology.hosts:
        _run(path(host.name), host_commands(host))


def router_commands(topology: Topology, path: Callable[[str], Path]) -> list[str]:
    """For ``ip -batch`` in the underlay's namespace."""
    mtu = topology.mtu
    commands = ["link set lo up", *(_add(a, "lo") for a in topology.api)]
    bridges = {host.bridge: host for host in topology.hosts}
    for bridge, host in bridges.items():
        commands += [f"link add {bridge} mtu {mtu} type bridge mcast_snooping 0", f"link set {bridge} up"]
        commands += [_add(gateway, bridge) for gateway in host.gateways]
    for host in topology.hosts:
        peer = f"peer name eth0 mtu {mtu} netns {path(host.name)}"
        commands += [
            f"link add {host.name} mtu {mtu} type veth {peer}",
            f"link set {host.name} master {host.bridge} up",
        ]
        commands += [
            f"route add {far} via {address.ip}"
            for far, address in zip(host.far, host.addresses, strict=False)
        ]
    return commands


def host_commands(host: Host) -> list[str]:
    """For ``ip -batch`` in the host's own namespace."""
    return [
        "link set lo up",
        *(_add(address, "lo") for address in host.far),
        *(_add(address, "eth0") for address in host.addresses),
        "link set eth0 up",
        *(f"route add default via {gateway.ip} dev eth0" for gateway in host.gateways),
    ]


def _add(address: Address | Interface, device: str) -> str:
    """IPv6 can be used at once: else a thread of the kernel has to say first that nobody else has it."""
    return f"address add {address} dev {device}" + (" nodad" if address.version == 6 else "")


def _set(namespace: Path, settings: dict[str, str]) -> None:
    with netns.entered(namespace):
        for name, value in settings.items():
            sysctl.write(name, value)


def _run(namespace: Path, commands: Iterable[str]) -> None:
    with netns.entered(namespace):
        done = subprocess.run(
            ["ip", "-batch", "-"], input="\n".join(commands), capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise LabError(f"the network of {namespace.name} cannot be set up: {done.stderr.strip()}")
