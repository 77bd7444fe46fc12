"""What Tulle is measured against: the same Pods on the same wires, connected by the kernel alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.namespaces import configure, ip, make, make_bridges_plain, run
from bench.nodes import wires
from tulle.lab.spec import Host, Spec, topology

_FORWARD = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
_GATEWAYS = ("169.254.1.1", "fe80::1")
_GATEWAY_MAC, _POD_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
_PATIENCE = 10.0  # seconds for a command
_VXLAN_MTU = 1450  # of the underlay's 1500 bytes, VXLAN over IPv4 takes 50


@dataclass(frozen=True, slots=True)
class Pair:
    """Two network namespaces: a client in one, a server in the other at ``addresses``, IPv4 first."""

    client: Path
    server: Path
    addresses: tuple[str, ...]


def bare_veth(folder: Path, stack: ExitStack) -> Pair:
    """Two namespaces and one veth pair, nothing in between."""
    one, two = (make(folder / name, stack) for name in ("one", "two"))
    ip(one, [f"link add eth0 type veth peer name eth0 netns {two}"])
    for number, namespace in enumerate((one, two), 1):
        ip(namespace, [*_on_link(number), "link set eth0 up"])
    return Pair(one, two, _address(2))


def bridge(folder: Path, stack: ExitStack) -> Pair:
    """Two Pods of one node on a Linux bridge."""
    node = make(folder / "node", stack)
    ip(node, _bridge())
    pods = [make(folder / f"pod-{number}", stack) for number in (1, 2)]
    for number, pod in enumerate(pods, 1):
        ip(node, [*_plug(f"pod-{number}", pod), f"link set pod-{number} master br0"])
        ip(pod, [*_on_link(number), "link set eth0 up"])
    return Pair(pods[0], pods[1], _address(2))


def between_nodes(folder: Path, stack: ExitStack) -> tuple[Pair, Pair]:
    """Two nodes that speak to each other, and a Pod on each that the kernel's own routes connect."""
    plan, (one, two) = wires(folder, stack, 2)
    first, second = plan.nodes
    pods = [
        routed_pod(folder / "pod-1", stack, one, first, second),
        routed_pod(folder / "pod-2", stack, two, second, first),
    ]
    direct = Pair(one, two, tuple(str(address.ip) for address in second.addresses))
    return direct, Pair(pods[0], pods[1], pod_addresses(second))


def routed_pods(folder: Path, stack: ExitStack) -> tuple[Path, Pair]:
    """A node, and two Pods on it that its own routes connect."""
    plan = topology(Spec(nodes=1))
    node = make(folder / "node", stack)
    configure(node, _FORWARD)
    cidrs = plan.nodes[0].pod_cidrs
    ends = [tuple(str(cidr[number]) for cidr in cidrs) for number in (2, 3)]
    pods = [
        _plug_routed(folder / f"pod-{number}", stack, node, f"pod-{number}", addresses)
        for number, addresses in enumerate(ends, 1)
    ]
    return node, Pair(pods[0], pods[1], ends[1])


def vxlan(folder: Path, stack: ExitStack) -> Pair:
    """On each of two nodes a bridge, on it a Pod and a VXLAN device: one Ethernet for all Pods.

    Without the outer checksum over IPv4, as Tulle's overlay; with it, the baseline would be slower.
    """
    plan, nodes = wires(folder, stack, 2)
    pods = []
    for number, (host, peer, node) in enumerate(zip(plan.nodes, reversed(plan.nodes), nodes, strict=True), 1):
        pod = make(folder / f"pod-{number}", stack)
        local, remote = host.addresses[0].ip, peer.addresses[0].ip
        make_bridges_plain(node)
        device = f"type vxlan id 42 dstport 4789 local {local} remote {remote} noudpcsum"
        ip(
            node,
            [
                *_bridge(),
                *_plug("pod", pod, _VXLAN_MTU),
                f"link add vxlan0 mtu {_VXLAN_MTU} {device}",
                *(f"link set {port} master br0 up" for port in ("pod", "vxlan0")),
            ],
        )
        ip(pod, [*_on_link(number), "link set eth0 up"])
        pods.append(pod)
    return Pair(pods[0], pods[1], _address(2))


def _bridge() -> list[str]:
    return ["link add br0 type bridge mcast_snooping 0", "link set br0 up"]


def _plug(name: str, pod: Path, mtu: int = 1500) -> list[str]:
    """A veth pair between a node and a Pod: ``name`` here, ``eth0`` there."""
    return [
        f"link add {name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {pod}",
        f"link set {name} up",
    ]


def routed_pod(folder: Path, stack: ExitStack, node: Path, host: Host, peer: Host | None = None) -> Path:
    """A Pod, and on its node the way to the other node's, if there is one."""
    pod = _plug_routed(folder, stack, node, "pod", pod_addresses(host))
    configure(node, _FORWARD)
    ways = zip(peer.pod_cidrs, peer.addresses, strict=True) if peer else ()
    ip(node, [f"route add {cidr} via {via.ip}" for cidr, via in ways])
    return pod


def tunnelled_pod(folder: Path, stack: ExitStack, node: Path, host: Host, peer: Host) -> Path:
    """A Pod, and on its node the way to the other node's through VXLAN, with all neighbours fixed.

    As most overlays do it: the device has the first address of the Pod CIDR, and the peer's MAC is known.
    """
    pod = _plug_routed(folder, stack, node, "pod", pod_addresses(host), _VXLAN_MTU)
    configure(node, _FORWARD)
    local, remote = host.addresses[0].ip, peer.addresses[0].ip
    device = f"type vxlan id 42 dstport 4789 local {local} noudpcsum nolearning"
    mac, peer_mac = _vxlan_mac(host), _vxlan_mac(peer)
    ways = [(cidr, cidr[0]) for cidr in peer.pod_cidrs]
    ip(
        node,
        [
            f"link add vxlan0 mtu {_VXLAN_MTU} address {mac} {device}",
            *(f"address add {cidr[0]}/{cidr.max_prefixlen} dev vxlan0" for cidr in host.pod_cidrs),
            "link set vxlan0 up",
            *(
                f"neighbour add {cidr[0]} lladdr {peer_mac} dev vxlan0 nud permanent"
                for cidr in peer.pod_cidrs
            ),
            *(f"route add {cidr} via {via} dev vxlan0 onlink" for cidr, via in ways),
        ],
    )
    run(node, ["bridge", "fdb", "add", peer_mac, "dev", "vxlan0", "dst", str(remote)], _PATIENCE)
    return pod


def _vxlan_mac(host: Host) -> str:
    return f"02:00:00:00:01:{int(host.addresses[0].ip) & 0xFF:02x}"


def _plug_routed(
    folder: Path, stack: ExitStack, node: Path, link: str, addresses: Sequence[str], mtu: int = 1500
) -> Path:
    """A Pod as Tulle connects it, with fixed neighbours and an address without a subnet, but no eBPF."""
    pod = make(folder, stack)
    ip(node, [*_plug(link, pod, mtu), f"link set {link} address {_GATEWAY_MAC}"])
    ip(pod, [f"link set eth0 address {_POD_MAC}", "link set eth0 up"])
    for address, gateway in zip(addresses, _GATEWAYS, strict=True):
        ip(
            pod,
            [
                f"address add {address} dev eth0",
                f"route add {gateway} dev eth0",
                f"neighbour add {gateway} lladdr {_GATEWAY_MAC} dev eth0 nud permanent",
                f"route add default via {gateway} dev eth0",
            ],
        )
        ip(
            node,
            [
                f"route add {address} dev {link}",
                f"neighbour add {address} lladdr {_POD_MAC} dev {link} nud permanent",
            ],
        )
    return pod


def _on_link(number: int) -> list[str]:
    v4, v6 = _address(number)
    return [f"address add {v4}/16 dev eth0", f"address add {v6}/64 dev eth0"]


def _address(number: int) -> tuple[str, str]:
    return f"10.244.0.{number}", f"fd00:10:244::{number}"


def pod_addresses(host: Host) -> tuple[str, ...]:
    return tuple(str(cidr[2]) for cidr in host.pod_cidrs)
