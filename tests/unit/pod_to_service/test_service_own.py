"""Which addresses are the node's, and where node ports are reached (S-21, S-22)."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from service_objects import raw

from tulle.agent.node import primary_of
from tulle.model.address import Network, from_bytes
from tulle.model.objects import Node, NodeAddress, NodeStatus, ObjectMeta
from tulle.pod_to_service.own import NodePortAddresses, own_addresses

THERE = [
    raw(a) for a in ("127.0.0.1", "::1", "192.168.0.5", "192.168.0.6", "fd00::5", "fe80::1", "169.254.1.1")
]
PRIMARY = [raw("192.168.0.5"), raw("fd00::5")]
LOOPBACK = {"127.0.0.1": False, "::1": False}


@pytest.mark.parametrize(
    ("asked", "reached"),
    [
        (NodePortAddresses(), ["192.168.0.5", "fd00::5"]),
        (NodePortAddresses(False, (ip_network("192.168.0.6/31"),)), ["192.168.0.6"]),
        (NodePortAddresses(True, (ip_network("192.168.0.0/24"),)), ["192.168.0.5", "192.168.0.6", "fd00::5"]),
        (NodePortAddresses(False, (ip_network("0.0.0.0/0"),)), ["192.168.0.5", "192.168.0.6"]),
        (NodePortAddresses(False, (ip_network("::/0"),)), ["fd00::5"]),
        (NodePortAddresses(False), []),
    ],
)
def test_where_node_ports_are_reached(asked: NodePortAddresses, reached: list[str]) -> None:
    """Never by loopback, be it in a network that is selected."""
    found = own_addresses(THERE, PRIMARY, asked, ())
    assert sorted(str(from_bytes(a)) for a, node_ports in found.items() if node_ports) == sorted(reached)
    assert {str(from_bytes(a)) for a in found} == {*LOOPBACK, "192.168.0.5", "192.168.0.6", "fd00::5"}


@pytest.mark.parametrize(
    ("cidrs", "own"),
    [((), True), ((ip_network("10.96.0.0/16"),), False), ((ip_network("10.0.0.0/16"),), True)],
)
def test_a_services_address_on_the_node_is_for_that_service(cidrs: tuple[Network, ...], own: bool) -> None:
    """Such as the cluster DNS address: no host port may take its queries."""
    found = own_addresses([raw("10.96.0.10")], (), NodePortAddresses(), cidrs)
    assert (raw("10.96.0.10") in found) is own


def test_loopback_is_there_whatever_the_kernel_says() -> None:
    found = own_addresses((), (), NodePortAddresses(), ())
    assert {str(from_bytes(a)): node_ports for a, node_ports in found.items()} == LOOPBACK


@pytest.mark.parametrize(
    ("addresses", "primary"),
    [
        ([], []),
        ([("InternalIP", "192.168.0.5"), ("InternalIP", "192.168.0.6")], ["192.168.0.5"]),
        ([("ExternalIP", "198.51.100.5"), ("InternalIP", "192.168.0.5")], ["192.168.0.5"]),
        ([("ExternalIP", "198.51.100.5"), ("InternalIP", "fd00::5")], ["198.51.100.5", "fd00::5"]),
        ([("Hostname", "192.168.0.5"), ("InternalIP", "x")], []),
    ],
)
def test_by_what_a_node_is_known(addresses: list[tuple[str, str]], primary: list[str]) -> None:
    """S-21: the first InternalIP of each family, or else the first ExternalIP."""
    status = NodeStatus(tuple(NodeAddress(kind, address) for kind, address in addresses))
    assert primary_of(Node(ObjectMeta("n"), status=status)) == frozenset(map(raw, primary))
