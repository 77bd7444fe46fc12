"""What BPF_PROG_TEST_RUN cannot put on a packet: outer headers of real VXLAN, and frames that are cut off."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from cluster import GATEWAY_MAC, OVERLAY_SOURCE_MAC
from packets import ETH_IPV4, ETH_IPV6, UDP, ethernet, ip, ports, vxlan
from service_scene import Ends

from tulle.kernel import libc, netns
from tulle.kernel.netlink import Netlink
from tulle.kernel.rtnetlink import add_address, add_veth, set_up
from tulle.model.address import Address, to_bytes
from tulle.pod_to_pod import link
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.link import LinkSettings
from tulle.pod_to_pod.programs import DatapathSettings
from tulle.pod_to_pod.routes import OVERLAY_DEVICE, ensure_overlay
from tulle.pod_to_pod.store import Attachment, link_name
from tulle.pod_to_pod.topology import Peer, Remote, Transport, Uplink, Way

VNI, PORT = 84, 4789
NODE, SENDER, IMPOSTOR = (f"192.168.0.{n}" for n in (1, 2, 66))
POD = Attachment(
    "c1", "eth0", "", link_name("c1", "eth0"), "0a:00:00:00:00:01", ("10.244.1.2", "fd00:244:1::2")
)
POD_MAC = bytes.fromhex("0a0000000001")
ELSEWHERE = ip_address("10.244.2.2"), ip_address("fd00:244:2::2")
NOWHERE = ip_address("10.244.9.2"), ip_address("fd00:244:9::2")


@dataclass
class Wire:
    """A node with one Pod, and beside it a host that sends as a node and as an impostor."""

    pod: Path
    host: Path
    datapath: Datapath
    events: list[Any] = field(default_factory=list)

    def tell(self, datagram: bytes, source: str) -> None:
        """From the host to the node's VXLAN port."""
        with netns.entered(self.host), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((source, PORT))
            sender.sendto(datagram, (NODE, PORT))

    def listen(self) -> socket.socket:
        """What reaches the Pod, as frames."""
        with netns.entered(self.pod):
            listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        listener.bind(("eth0", 0))
        listener.settimeout(5)
        return listener

    def dropped(self, ring: Any) -> str:
        """The reason of the one drop that is told."""
        waiting = select.poll()
        waiting.register(ring, select.POLLIN)
        assert waiting.poll(5000), "no drop is told"
        ring.consume()
        [event] = self.events
        return str(self.datapath.contract.enums["reason"](event.reason).name)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    pod, host, node, bpffs = (tmp_path / name for name in ("pod", "host", "node", "bpffs"))
    bpffs.mkdir()
    with ExitStack() as stack:
        libc.mount("bpf", bpffs, "bpf")
        stack.callback(libc.umount, bpffs)
        for path in (pod, host, node):
            netns.create(path)
            stack.callback(netns.delete, path)
        stack.enter_context(netns.entered(node))
        datapath = Datapath(bpffs / "node", DatapathSettings(VNI, PORT, flow_table_size=16384))
        stack.callback(datapath.close)
        uplink = connect_host(host)
        attachment = Attachment(POD.container_id, "eth0", str(pod), POD.link, POD.mac, POD.ips)
        link.connect(attachment, LinkSettings(1450, (ip_address(NODE),)), datapath)
        with Netlink() as netlink:
            overlay = ensure_overlay(netlink, 1450, PORT, Peer("node", (ip_address(NODE),), ()))
        datapath.attach("overlay", overlay, OVERLAY_DEVICE)
        way = Way(*map(ip_address, (SENDER, NODE)), uplink, True)
        remotes = [
            Remote(ip_network(cidr), Transport.OVERLAY, way, way, True)
            for cidr in ("10.244.2.0/24", "fd00:244:2::/64")
        ]
        datapath.sync_remotes(remotes, overlay, remove=True)
        yield Wire(pod, host, datapath)


def connect_host(host: Path) -> Uplink:
    """A veth from the node, where the thread is, to the host, which has both senders' addresses."""
    with Netlink() as netlink, host.open() as there:
        netlink.send(
            [add_veth("uplink", bytes.fromhex("0a00000000fe"), "eth0", POD_MAC, there.fileno(), 1500)]
        )
        index = socket.if_nametoindex("uplink")
        netlink.send([add_address(index, ip_interface(f"{NODE}/24")), set_up(index)])
    with netns.entered(host), Netlink() as netlink:
        other = socket.if_nametoindex("eth0")
        own = [add_address(other, ip_interface(f"{address}/24")) for address in (SENDER, IMPOSTOR)]
        netlink.send([*own, set_up(other)])
    return Uplink(index, "uplink", 1500, (ip_interface(f"{NODE}/24"),))


def inner(source: Address, hop_limit: int = 64) -> bytes:
    """To the Pod, in the family of ``source``."""
    destination = ip_address(POD.ips[source.version == 6])
    packet = ip(source, destination, UDP, ports(40000, 53), hop_limit)
    return ethernet(GATEWAY_MAC, OVERLAY_SOURCE_MAC, packet)


@pytest.mark.parametrize("source", ELSEWHERE, ids=["v4", "v6"])
def test_overlay_delivers_what_the_node_of_its_source_sends(wire: Wire, source: Address) -> None:
    with wire.listen() as pod:
        wire.tell(vxlan(VNI, inner(source)), SENDER)
        expected = POD_MAC + GATEWAY_MAC + inner(source, 63)[12:]
        assert any(pod.recv(2048) == expected for _ in range(20))


@pytest.mark.parametrize("family", [0, 1], ids=["v4", "v6"])
@pytest.mark.parametrize(
    ("sources", "sender", "vni", "reason"),
    [
        pytest.param(ELSEWHERE, IMPOSTOR, VNI, "DROP_OVERLAY_SENDER", id="another host's address"),
        pytest.param(NOWHERE, SENDER, VNI, "DROP_OVERLAY_SENDER", id="a source that is no node's"),
        pytest.param(ELSEWHERE, SENDER, VNI + 1, "DROP_OVERLAY_VNI", id="another network"),
        pytest.param(ELSEWHERE, IMPOSTOR, VNI + 1, "DROP_OVERLAY_VNI", id="another network and host"),
    ],
)
def test_overlay_drops(
    wire: Wire, sources: tuple[Address, ...], sender: str, vni: int, reason: str, family: int
) -> None:
    ring = wire.datapath.drops(wire.events.append)
    wire.tell(vxlan(vni, inner(sources[family])), sender)
    assert wire.dropped(ring) == reason
    ring.close()


@pytest.mark.parametrize(
    ("ethertype", "length"), [(ETH_IPV4, 1), (ETH_IPV4, 19), (ETH_IPV6, 1), (ETH_IPV6, 39)]
)
def test_frames_that_are_cut_off(wire: Wire, ethertype: int, length: int) -> None:
    ring = wire.datapath.drops(wire.events.append)
    frame = GATEWAY_MAC + POD_MAC + struct.pack("!H", ethertype) + b"\x45" * length
    waiting = select.poll()
    waiting.register(ring, select.POLLIN)
    with wire.listen() as pod:
        pod.send(frame)
        while not waiting.poll(100):  # a link that just came up may swallow the first
            pod.send(frame)
    ring.consume()
    malformed = wire.datapath.contract.enums["reason"]["DROP_MALFORMED"]
    assert {event.reason for event in wire.events} == {malformed}
    ring.close()


@pytest.mark.parametrize("source", ELSEWHERE, ids=["v4", "v6"])
def test_an_answer_of_a_service_by_the_overlays_device(wire: Wire, source: Address) -> None:
    """It is translated there as on the uplink (S-20); real outer headers lead it there."""
    six = source.version == 6
    pod, vip = ip_address(POD.ips[six]), ip_address("fd00:10:96::7" if six else "10.96.0.7")
    to_backend, from_backend = Ends(pod, 40000, vip, 80), Ends(source, 8080, pod, 40000)
    note_answers(wire.datapath, from_backend, to_backend.back)
    rest = struct.pack("!HH", 12, 0) + b"abcd"
    frame = ethernet(GATEWAY_MAC, OVERLAY_SOURCE_MAC, from_backend.packet(UDP, rest))
    with wire.listen() as listener:
        wire.tell(vxlan(VNI, frame), SENDER)
        expected = POD_MAC + GATEWAY_MAC + frame[12:14] + to_backend.back.packet(UDP, rest, 63)
        assert any(listener.recv(2048) == expected for _ in range(20))


def note_answers(datapath: Datapath, comes: Ends, becomes: Ends) -> None:
    """As the client's first packet has it noted."""
    kind = datapath.contract.enums["flow_kind"]["FLOW_TRANSLATED"]
    now = int(time.clock_gettime(time.CLOCK_MONOTONIC))
    datapath.maps["flows"][packed(datapath, comes)] = datapath.contract.pack(
        "flow_state", becomes=packed(datapath, becomes), used=now, kind=kind
    )


def packed(datapath: Datapath, ends: Ends) -> bytes:
    return datapath.contract.pack(
        "flow",
        source=to_bytes(ends.source),
        destination=to_bytes(ends.destination),
        source_port=socket.htons(ends.source_port),
        destination_port=socket.htons(ends.destination_port),
        protocol=UDP,
    )
