"""Which routes the kernel should have, and what brings it there."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tulle.kernel.rtnetlink import Encap, Route
from tulle.pod_to_pod.routes import Change, desired_routes, difference, overlay_mtu
from tulle.pod_to_pod.topology import Peer, Remote, Transport, Uplink, Way

ETH0 = Uplink(2, "eth0", 1500, (ip_interface("192.168.0.1/24"),))
OWN = Peer(
    "n1",
    (ip_address("192.168.0.1"), ip_address("fd00::1")),
    (ip_network("10.1.0.0/24"), ip_network("fd01::/64")),
)
UNREACHABLE = [Route(cidr) for cidr in OWN.pod_cidrs]
OVERLAY, VNI = 9, 84


def remote(prefix: str, transport: Transport, node: str, neighbour: bool = True, pods: bool = True) -> Remote:
    way = Way(ip_address(node), OWN.addresses[0], ETH0, neighbour)
    return Remote(ip_network(prefix), transport, way, way, pods)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            remote("10.2.0.0/24", Transport.NATIVE, "192.168.0.2"),
            [Route(ip_network("10.2.0.0/24"), 2, ip_address("192.168.0.2"), OWN.addresses[0])],
            id="native",
        ),
        pytest.param(
            remote("10.2.0.0/24", Transport.OVERLAY, "192.168.9.2"),
            [
                Route(
                    ip_network("10.2.0.0/24"),
                    OVERLAY,
                    source=OWN.addresses[0],
                    encap=Encap(VNI, ip_address("192.168.9.2"), OWN.addresses[0]),
                )
            ],
            id="overlay",
        ),
        pytest.param(
            remote("fd02::/64", Transport.OVERLAY, "192.168.9.2"),
            [
                Route(
                    ip_network("fd02::/64"),
                    OVERLAY,
                    source=OWN.addresses[1],
                    encap=Encap(VNI, ip_address("192.168.9.2"), OWN.addresses[0]),
                )
            ],
            id="IPv6 over IPv4",
        ),
        pytest.param(
            remote("10.2.0.0/24", Transport.NATIVE, "192.168.9.2", False), [], id="the routers know"
        ),
        pytest.param(remote("192.168.0.2/32", Transport.NATIVE, "192.168.0.2", pods=False), [], id="a node"),
    ],
)
def test_desired_routes(given: Remote, expected: list[Route]) -> None:
    assert list(desired_routes(OWN, [given], OVERLAY, VNI)) == UNREACHABLE + expected


WAY = Route(ip_network("10.2.0.0/24"), 2, ip_address("192.168.0.2"))
OTHER = replace(WAY, destination=ip_network("10.3.0.0/24"))
POD = Route(ip_network("10.1.0.7/32"), 12)
POD_OF_FORMER_CIDR = Route(ip_network("10.7.0.7/32"), 12)


@pytest.mark.parametrize(
    ("desired", "actual", "replaced", "deleted"),
    [
        pytest.param([WAY], [], [WAY], [], id="new"),
        pytest.param([WAY], [WAY], [], [], id="there"),
        pytest.param([WAY], [replace(WAY, oif=3)], [WAY], [], id="another device"),
        pytest.param([WAY], [WAY, OTHER], [], [OTHER], id="gone"),
        pytest.param([], [POD], [], [], id="a Pod's is not ours"),
        pytest.param([], [POD_OF_FORMER_CIDR], [], [], id="a Pod's from before the node's CIDRs changed"),
    ],
)
def test_difference(
    desired: list[Route], actual: list[Route], replaced: list[Route], deleted: list[Route]
) -> None:
    assert difference(desired, actual) == Change(tuple(replaced), tuple(deleted))


def test_overlay_mtu_fits_through_to_each_peer() -> None:
    four, six = (remote("10.2.0.0/24", Transport.OVERLAY, node) for node in ("192.168.9.2", "fd00::2"))
    beside = remote("10.3.0.0/24", Transport.NATIVE, "192.168.0.3")
    assert overlay_mtu([four, beside]) == 1450
    assert overlay_mtu([replace(six, tunnel=four.tunnel, transport=Transport.NATIVE)]) == 1450
    assert overlay_mtu([four, six]) == 1430
