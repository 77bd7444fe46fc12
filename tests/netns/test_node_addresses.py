"""What an agent tells the programs of its node: addresses, Pods by their last bytes, the way to hand over."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from nodes import Node
from test_service_status_agrees import wait_for

from tulle.lab.spec import Spec
from tulle.model.address import from_bytes, from_mapped
from tulle.pod_to_pod.pinned import Pinned
from tulle.pod_to_service.own import OwnAddresses

Cluster = Callable[..., list[Node]]
EXTRA = "192.0.2.7"


def own(node: Node) -> dict[str, bool]:
    pinned = Pinned(node.bpffs)
    found = OwnAddresses(pinned.open("own_addresses", 4), pinned.contract).read()
    return {str(from_bytes(address)): node_ports for address, node_ports in found.items()}


def suffixes(node: Node) -> dict[bytes, str]:
    found = Pinned(node.bpffs).open("suffixes", 16).items(4)
    return {suffix: str(from_bytes(address)) for suffix, address in found.items()}


def test_the_nodes_addresses_as_the_kernel_has_them(cluster: Cluster) -> None:
    """S-21: node ports at those by which the Node object names the node, unless others are asked for."""
    [node] = cluster()
    primary = dict.fromkeys(node.ips, True) | {"127.0.0.1": False, "::1": False}
    wait_for(lambda: own(node) == primary, "the agent tells the node's addresses")
    node.run("ip", "address", "add", f"{EXTRA}/32", "dev", "lo")
    wait_for(lambda: own(node) == primary | {EXTRA: False}, "the new one, too")
    node.kill_agent(signal.SIGTERM)
    assert own(node) == primary | {EXTRA: False}, "they stay without an agent"
    node.start_agent("--node-port-address=192.0.2.0/24")
    changed = dict.fromkeys(primary, False) | {EXTRA: True}
    wait_for(lambda: own(node) == changed, "the setting is followed")
    node.run("ip", "address", "del", f"{EXTRA}/32", "dev", "lo")
    wait_for(lambda: own(node) == dict.fromkeys(primary, False), "what is gone is gone")
    node.kill_agent(signal.SIGTERM)
    node.start_agent("--no-services")
    wait_for(lambda: own(node) == primary, "host ports are reached there without Services, too")


def test_pods_by_the_last_bytes_of_their_addresses(cluster: Cluster) -> None:
    """Which is how other nodes hand packets over to them; of IPv4 that is all of the address."""
    [node] = cluster()
    first, second = node.add("a"), node.add("b")
    six = [next(ip for ip in pod.ips if ":" in ip) for pod in (first, second)]
    expected = {ip_address(ip).packed[-4:]: ip for ip in six}
    assert suffixes(node) == expected
    Pinned(node.bpffs).open("suffixes", 16)[b"\1\2\3\4"] = ip_address("fd00::102:304").packed
    Pinned(node.bpffs).open("suffixes", 16).discard(ip_address(six[0]).packed[-4:])
    node.kill_agent()
    node.start_agent()
    wait_for(lambda: suffixes(node) == expected, "the next agent mends it")
    node.call("DEL", first)
    assert list(suffixes(node).values()) == six[1:]


def overlays(node: Node) -> dict[str, int]:
    """The overlay device by prefix elsewhere."""
    pinned = Pinned(node.bpffs)
    layout = pinned.contract.layout("prefix")
    table = pinned.open("remotes", len(pinned.contract.pack("remote")))
    found = {}
    for key in list(table.keys(layout.size)):
        length, address = layout.unpack(key)
        remote = pinned.contract.unpack("remote", table.get(key) or b"")
        found[str(from_mapped(address, length))] = int(remote.overlay)
    return found


@pytest.mark.parametrize(
    ("flags", "there"),
    [
        (("--external-traffic=handover",), True),
        (("--external-traffic=dsr",), True),
        (("--external-traffic=snat",), False),
        (("--no-services",), False),
    ],
    ids=str,
)
def test_nodes_with_native_routing_can_hand_packets_over(
    cluster: Cluster, flags: tuple[str, ...], there: bool
) -> None:
    """And their Pods do not pay for it: they still have the uplink's MTU."""
    one, _ = cluster(Spec(nodes=2), "--routing=native", *flags)
    links = {link["ifname"]: link for link in json.loads(one.run("ip", "-j", "link").stdout)}
    assert ("tulle-overlay" in links) is there
    index = links["tulle-overlay"]["ifindex"] if there else 0
    assert set(overlays(one).values()) == {index} and len(overlays(one)) == 4
    pod = one.add("a")
    [eth0] = json.loads(pod.run("ip", "-j", "link", "show", "eth0").stdout)
    assert eth0["mtu"] == 1500
    if there:
        assert links["tulle-overlay"]["mtu"] == 1450, "the outer header is IPv4's where both have it"
        one.kill_agent(signal.SIGTERM)
        one.start_agent("--routing=native", "--external-traffic=snat")
        assert set(overlays(one).values()) == {0}


def test_a_flow_table_keeps_its_size(cluster: Cluster) -> None:
    """And its flows: another size is told, and counts once the table is made anew."""
    [node] = cluster()
    node.kill_agent(signal.SIGTERM)
    node.start_agent("--flow-table-size=8192")
    assert "the flow table has 16384 entries, not flowTableSize 8192" in node.log()
    assert Pinned(node.bpffs).open("flows", 72).most == 16384
