"""What the kernel announces, and what of it the agent has to act on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_interface
from pathlib import Path

import pytest

from tulle.agent.monitor import LinkMonitor
from tulle.kernel import netns
from tulle.kernel.netlink import Netlink, Request
from tulle.kernel.rtnetlink import (
    SCOPE_LINK,
    add_address,
    add_veth,
    delete_link,
    leave_link_local_to_us,
    set_alias,
    set_up,
)

MAC, PEER_MAC = bytes.fromhex("0274756c6c65"), bytes.fromhex("0a0000000001")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Netlink]:
    """The thread is in a namespace of its own."""
    with ExitStack() as stack:
        for name in ("here", "pod"):
            netns.create(tmp_path / name)
            stack.callback(netns.delete, tmp_path / name)
        stack.enter_context(netns.entered(tmp_path / "here"))
        yield stack.enter_context(Netlink())


def make_link(home: Netlink, name: str, pod: Path) -> int:
    with pod.open() as there:
        home.send([add_veth(name, MAC, "eth0", PEER_MAC, there.fileno(), 1450)])
    return socket.if_nametoindex(name)


async def test_pods_that_come_and_go_do_not_wake_the_reconciler(home: Netlink, tmp_path: Path) -> None:
    gone: asyncio.Queue[str] = asyncio.Queue()
    changed = asyncio.Event()
    monitor = LinkMonitor(gone.put_nowait, changed.set)
    monitor.start()
    try:
        index = make_link(home, "tul0123456789a", tmp_path / "pod")
        address = add_address(index, ip_interface("fe80::1/64"), SCOPE_LINK)
        home.send([set_alias(index, "web"), leave_link_local_to_us(index), address, set_up(index)])
        home.send([delete_link("tul0123456789a")])
        async with asyncio.timeout(10):
            assert await gone.get() == "tul0123456789a"
        assert not changed.is_set()
    finally:
        monitor.close()


@pytest.mark.parametrize(
    "change",
    [
        set_up,
        lambda index: add_address(index, ip_interface("192.168.0.1/24")),
        lambda index: add_address(index, ip_interface("fd00::1/64")),
    ],
)
async def test_the_nodes_own_links_and_addresses_wake_it(
    home: Netlink, tmp_path: Path, change: Callable[[int], Request]
) -> None:
    index = make_link(home, "uplink", tmp_path / "pod")
    changed = asyncio.Event()
    monitor = LinkMonitor(lambda name: None, changed.set)
    monitor.start()
    try:
        home.send([change(index)])
        async with asyncio.timeout(10):
            await changed.wait()
    finally:
        monitor.close()
