"""The cluster that the packets travel in: this node with two Pods, and four nodes reached each in its way."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from programs import Programs

from tulle.model.address import Address, Network, mapped_length, to_bytes

A_LINK, B_LINK, UPLINK, OVERLAY = 10, 11, 12, 13  # ifindexes of this node
A_MAC, B_MAC = bytes.fromhex("0a0000000001"), bytes.fromhex("0a0000000002")
GATEWAY_MAC = bytes.fromhex("0274756c6c65")
OVERLAY_SOURCE_MAC = bytes.fromhex("0274756c6c66")
ROUTER_MAC = bytes.fromhex("0a00000000ff")
MTU = 1500  # of every device
SHORT_CUT = 0x74756C6C


@dataclass(frozen=True)
class Family:
    """The same cluster in one address family.

    ``a`` and ``b`` are this node's Pods; the others are Pods elsewhere, named by how they are reached.
    """

    name: str
    a: Address
    b: Address
    nobody: Address  # in this node's Pod CIDR, but no Pod has it
    native: Address
    overlay: Address
    overlay_over_v6: Address
    routed: Address  # native, the node is no neighbour
    node: Address  # this node
    other_node: Address
    outside: Address
    link_local: Address
    multicast: Address
    unspecified: Address
    icmp: int

    def __str__(self) -> str:
        return self.name

    @property
    def local(self) -> dict[Address, tuple[int, bytes]]:
        return {self.a: (A_LINK, A_MAC), self.b: (B_LINK, B_MAC)}

    @property
    def remotes(self) -> dict[Network, tuple[Address, int, str]]:
        """Prefix to (node, device, transport)."""
        bits = 24 if self.a.version == 4 else 64
        six = ip_address("fd00::4")

        def cidr(address: Address) -> Network:
            return ip_network(f"{address}/{bits}", strict=False)

        return {
            cidr(self.native): (self.other_node, UPLINK, "NATIVE"),
            cidr(self.overlay): (OVERLAY_NODE, OVERLAY, "OVERLAY"),
            cidr(self.overlay_over_v6): (six, OVERLAY, "OVERLAY"),
            cidr(self.routed): (self.outside, UPLINK, "NATIVE"),
            ip_network(self.other_node): (self.other_node, UPLINK, "NATIVE"),
            ip_network(OVERLAY_NODE): (OVERLAY_NODE, OVERLAY, "OVERLAY"),
        }


V4 = Family(
    "v4",
    *map(ip_address, ("10.244.1.2", "10.244.1.3", "10.244.1.9")),
    *map(ip_address, ("10.244.2.2", "10.244.3.2", "10.244.4.2", "10.244.5.2")),
    *map(ip_address, ("192.168.0.1", "192.168.0.2", "203.0.113.5")),
    *map(ip_address, ("169.254.1.1", "224.0.0.251", "0.0.0.0")),
    icmp=1,
)
V6 = Family(
    "v6",
    *map(ip_address, ("fd00:244:1::2", "fd00:244:1::3", "fd00:244:1::9")),
    *map(ip_address, ("fd00:244:2::2", "fd00:244:3::2", "fd00:244:4::2", "fd00:244:5::2")),
    *map(ip_address, ("fd00::1", "fd00::2", "2001:db8::5")),
    *map(ip_address, ("fe80::1", "ff02::fb", "::")),
    icmp=58,
)
OVERLAY_NODE = ip_address("192.168.0.3")
VNI = 84
A_LINK_LOCAL = ip_address("fe80::800:ff:fe00:1")


def fill(programs: Programs) -> None:
    """Writes the maps as the agent of this node would."""
    pack, transports = programs.contract.pack, programs.contract.enums["transport"]
    local = V4.local | V6.local | {A_LINK_LOCAL: (A_LINK, A_MAC)}
    for address, (ifindex, mac) in local.items():
        programs.maps["endpoints"][to_bytes(address)] = pack("endpoint", ifindex=ifindex, mac=mac)
        if address.version == 6:
            programs.maps["suffixes"][address.packed[-4:]] = to_bytes(address)
    for index, node in enumerate((V4.node, V6.node)):
        programs.maps["self"][index.to_bytes(4, "little")] = to_bytes(node)
        flags = programs.contract.enums["own_flags"]["OWN_NODE_PORTS"]
        programs.maps["own_addresses"][to_bytes(node)] = int(flags).to_bytes(4, "little")
    for prefix, (node, ifindex, transport) in (V4.remotes | V6.remotes).items():
        key = pack("prefix", length=mapped_length(prefix), address=to_bytes(prefix.network_address))
        programs.maps["remotes"][key] = pack(
            "remote",
            node=to_bytes(node),
            source=to_bytes(V4.node if node.version == 4 else V6.node),
            ifindex=ifindex,
            uplink=UPLINK,
            overlay=OVERLAY,
            host=prefix.num_addresses == 1,
            neighbour=node not in (V4.outside, V6.outside),
            transport=transports[f"TRANSPORT_{transport}"],
        )


def flow(
    programs: Programs, source: Address, destination: Address, protocol: int, ports: tuple[int, int] = (0, 0)
) -> bytes:
    """A key of ``flows``; ports in host order."""
    return programs.contract.pack(
        "flow",
        source=to_bytes(source),
        destination=to_bytes(destination),
        source_port=int.from_bytes(ports[0].to_bytes(2, "big"), "little"),
        destination_port=int.from_bytes(ports[1].to_bytes(2, "big"), "little"),
        protocol=protocol,
    )


def await_in_stack(programs: Programs, key: bytes) -> None:
    """The host's stack waits for packets of this flow."""
    kind = programs.contract.enums["flow_kind"]["FLOW_OF_STACK"]
    programs.maps["flows"][key] = programs.contract.pack("flow_state", kind=kind)
