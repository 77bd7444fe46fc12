"""Requests as the kernel understands them: what it was told is what it tells."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from tulle.errors import KernelError
from tulle.kernel import netns, nft, tc
from tulle.kernel.netlink import Netlink
from tulle.kernel.rtnetlink import (
    IFF_NOARP,
    IFF_UP,
    PROTO_BOOT,
    SCOPE_LINK,
    Encap,
    Link,
    Route,
    add_address,
    add_veth,
    addresses,
    delete_link,
    delete_route,
    leave_link_local_to_us,
    links,
    replace_route,
    routes,
    set_alias,
    set_mtu,
    set_up,
)
from tulle.pod_to_pod import masquerade
from tulle.pod_to_pod.routes import OVERLAY_DEVICE, ensure_overlay, remove_overlay
from tulle.pod_to_pod.topology import Peer

MAC, PEER_MAC = bytes.fromhex("0274756c6c65"), bytes.fromhex("0a0000000001")
NODE = ip_interface("192.168.0.1/24"), ip_interface("fd00::1/64")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Netlink]:
    """The thread is in a namespace with ``tul1``, up and with addresses; its other side is in another."""
    with ExitStack() as stack:
        for name in ("here", "there"):
            netns.create(tmp_path / name)
            stack.callback(netns.delete, tmp_path / name)
        stack.enter_context(netns.entered(tmp_path / "here"))
        netlink = stack.enter_context(Netlink())
        with (tmp_path / "there").open() as there:
            netlink.send([add_veth("tul1", MAC, "eth0", PEER_MAC, there.fileno(), 1450)])
        index = link(netlink).index
        configured = [add_address(index, address) for address in NODE]
        netlink.send([leave_link_local_to_us(index), *configured, set_up(index)])
        yield netlink


def link(netlink: Netlink, name: str = "tul1") -> Link:
    return next(found for found in links(netlink) if found.name == name)


def test_link(home: Netlink) -> None:
    found = link(home)
    assert (found.kind, found.alias, found.mac, found.mtu) == ("veth", "", MAC, 1450)
    assert found.flags & IFF_UP
    home.send([set_mtu(found.index, 1400), set_alias(found.index, "default/web eth0")])
    assert (link(home).mtu, link(home).alias) == (1400, "default/web eth0")
    home.send([delete_link("tul1")])
    assert [x.name for x in links(home)] == ["lo"]


def test_addresses(home: Netlink) -> None:
    """Ours and no other: the kernel adds no link-local address of its own."""
    index = link(home).index
    assert sorted((i for number, i in addresses(home) if number == index), key=str) == sorted(NODE, key=str)


OWN = Peer("n1", (ip_address("192.168.0.1"), ip_address("fd00::1")), ())
FOUR, SIX = ip_network("10.2.0.0/24"), ip_network("fd02::/64")


@pytest.mark.parametrize(
    "route",
    [
        Route(FOUR),
        Route(SIX),
        Route(ip_network("10.1.0.2/32"), 1, scope=SCOPE_LINK, source=NODE[0].ip),
        Route(ip_network("fd01::2/128"), 1, source=NODE[1].ip),
        Route(FOUR, 1, ip_address("192.168.0.2"), NODE[0].ip),
        Route(SIX, 1, ip_address("fd00::2"), NODE[1].ip),
        Route(FOUR, 1, ip_address("172.16.0.2"), onlink=True),
        Route(FOUR, 2, encap=Encap(84, *map(ip_address, ("192.168.0.2", "192.168.0.1"))), scope=SCOPE_LINK),
        Route(SIX, 2, encap=Encap(84, *map(ip_address, ("192.168.0.2", "192.168.0.1")))),
        Route(SIX, 2, encap=Encap(84, *map(ip_address, ("fd00::2", "fd00::1")))),
    ],
    ids=str,
)
def test_route_comes_back(home: Netlink, route: Route) -> None:
    """``oif`` 1 stands for the veth here, 2 for the overlay."""
    oif = {0: 0, 1: link(home).index, 2: ensure_overlay(home, 1400, 4789, OWN)}[route.oif]
    given = Route(
        route.destination, oif, route.gateway, route.source, route.encap, route.scope, onlink=route.onlink
    )
    home.send([replace_route(given)])
    assert routes(home) == [given]
    home.send([replace_route(given), delete_route(given)])
    assert routes(home) == []


def test_routes_of_others_are_told_apart(home: Netlink) -> None:
    home.send([replace_route(Route(FOUR, link(home).index, protocol=PROTO_BOOT))])
    assert routes(home) == []
    assert FOUR in [route.destination for route in routes(home, None)]


def test_overlay_device(home: Netlink) -> None:
    index = ensure_overlay(home, 1400, 4789, OWN)
    assert ensure_overlay(home, 1430, 4789, OWN) == index
    found = link(home, OVERLAY_DEVICE)
    assert (found.kind, found.mtu, bool(found.flags & IFF_NOARP)) == ("vxlan", 1430, True)
    for _ in range(2):
        remove_overlay(home)
    assert OVERLAY_DEVICE not in [x.name for x in links(home)]


def test_the_first_failure_is_told_and_the_rest_is_done(home: Netlink) -> None:
    index = link(home).index
    with pytest.raises(KernelError, match="delete link none"):
        home.send([delete_link("none"), set_mtu(index, 1300), delete_link("nobody")])
    assert link(home).mtu == 1300


def test_more_requests_than_fit_into_a_socket(home: Netlink) -> None:
    """The nodes of a large cluster, met at once: adding, and removing what is not there."""
    way, gateway = link(home).index, NODE[0].ip + 1
    many = [Route(prefix, way, gateway) for prefix in ip_network("10.0.0.0/8").subnets(new_prefix=20)]
    home.send(list(map(replace_route, many)))
    assert len(routes(home)) == len(many)
    for _ in range(2):
        home.send(list(map(delete_route, many)), tolerate=frozenset({errno.ESRCH}))
    assert routes(home) == []


@pytest.mark.parametrize(
    "kept",
    [(), ("10.0.0.0/8", "10.244.0.0/16", "192.168.0.1/32", "fd00::/8"), ("0.0.0.0/0", "::/0", "239.0.0.0/8")],
)
@pytest.mark.parametrize("pods", [("10.1.0.0/24", "fd01::/64"), ("fd01::/64",), ("10.1.0.0/24",)])
async def test_nft_takes_the_ruleset(home: Netlink, pods: tuple[str, ...], kept: tuple[str, ...]) -> None:
    ruleset = masquerade.ruleset(map(ip_network, pods), list(map(ip_network, kept)), 0x74756C6D)
    for _ in range(2):
        await nft.apply(ruleset)
        await nft.apply(masquerade.removal())


def test_a_link_without_programs(home: Netlink) -> None:
    assert tc.attached(home, link(home).index, tc.INGRESS) == set()


async def test_what_nft_says_is_told(home: Netlink) -> None:
    with pytest.raises(KernelError, match="unknown"):
        await nft.apply("unknown")
