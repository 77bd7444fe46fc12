"""Every Pod reaches every Pod, on real links with the real programs (N-01 to N-08, N-20, N-21, N-23)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from nodes import Node, Pod, enter
from test_agent import eventually

from tulle.lab.spec import Spec
from tulle.pod_to_pod.pinned import Pinned

Cluster = Callable[..., list[Node]]
PAIR = Spec(nodes=2), "--routing=native"
OVERLAY = Spec(nodes=2), "--routing=overlay"


def ping(source: Pod | Node, address: str, *options: str) -> bool:
    done = source.run("ping", "-c", "1", "-W", "2", *options, address, check=False)
    return done.returncode == 0


@contextmanager
def counting(node: Node, hook: str) -> Iterator[Counter[str]]:
    """Packets by reason at a hook within the block; there once the block has ended."""

    def counted() -> Counter[str]:
        return Counter({c.reason: c.packets for c in Pinned(node.bpffs).counters() if c.hook == hook})

    within: Counter[str] = Counter()
    before = counted()
    yield within
    within.update(counted() - before)


def listen(pod: Pod | Node, address: str, port: int) -> None:
    """Answers one UDP datagram with the address that it came from."""
    script = (
        "import socket, sys; i = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]))[0];"
        "s = socket.socket(i[0], socket.SOCK_DGRAM); s.bind(i[4]); print('ready', flush=True);"
        "d, a = s.recvfrom(9000); s.sendto(a[0].encode(), a)"
    )
    process = pod.popen("python3", "-c", script, address, str(port))
    pod.children.append(process)
    assert process.stdout and process.stdout.readline() == "ready\n"


def seen_as(source: Pod | Node, address: str, port: int) -> str:
    """The source address that a listener sees."""
    script = (
        "import socket, sys; i = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]))[0];"
        "s = socket.socket(i[0], socket.SOCK_DGRAM); s.settimeout(5); s.connect(i[4]);"
        "s.send(bytes(1000)); print(s.recv(99).decode())"
    )
    return source.run("python3", "-c", script, address, str(port)).stdout.strip()


def test_pods_of_one_node_reach_each_other_by_the_short_cut(shared: Cluster) -> None:
    node, _ = shared(*PAIR)
    a, b = node.add("a"), node.add("b")
    with counting(node, "from_pod") as packets:
        assert all(ping(a, ip) for ip in b.ips)
    assert packets["local_pod"] == 4
    assert all(ping(node, ip) for ip in a.ips), "agents of the node reach its Pods (N-03)"
    assert all(ping(a, ip) for ip in node.ips), "a Pod reaches its own node"


@pytest.mark.parametrize(
    ("routing", "spec"),
    [
        ("native", Spec(nodes=2)),
        ("overlay", Spec(nodes=2)),
        ("auto", Spec(nodes=2, subnets=2)),
        ("auto", Spec(nodes=2, subnets=2, families=("ipv6", "ipv4"))),
        ("overlay", Spec(nodes=2, families=("ipv6",))),
        ("native", Spec(nodes=2, families=("ipv6", "ipv4"))),
    ],
    ids=[
        "native",
        "overlay",
        "auto-two-subnets",
        "auto-two-subnets-ipv6-first",
        "overlay-ipv6-only",
        "native-ipv6-first",
    ],
)
def test_pods_of_two_nodes_reach_each_other_without_nat(shared: Cluster, routing: str, spec: Spec) -> None:
    one, two = shared(spec, f"--routing={routing}")
    a, b = one.add("a"), two.add("b")
    with counting(one, "from_pod") as packets:
        for source, own in (a, a.ips), (one, one.ips):
            for ip, expected in zip(b.ips, own, strict=True):
                assert ping(source, ip)
                assert ping(source, ip, "-s", "4000"), "fragments arrive whole (N-21)"
                listen(b, ip, 5000)
                assert seen_as(source, ip, 5000) == expected, "the sender's own address (N-05)"
    assert packets["native" if routing == "native" else "overlay"] >= 2 * len(b.ips)
    assert all(ping(a, ip) for ip in two.ips), "a Pod reaches the other node"


def test_the_first_address_is_of_the_primary_family(cluster: Cluster) -> None:
    [node] = cluster(Spec(nodes=1, families=("ipv6", "ipv4")))
    assert [":" in ip for ip in node.add("a").ips] == [True, False], "N-07"


def test_the_kernels_own_routes_carry_packets_without_the_programs(cluster: Cluster) -> None:
    one, two = cluster(*PAIR)
    a, b = one.add("a"), two.add("b")
    for node, pod in (one, a), (two, b):
        node.kill_agent()
        node.run("tc", "qdisc", "del", "dev", pod.result["interfaces"][0]["name"], "clsact")
        for pin in node.bpffs.glob("links/*"):
            pin.unlink()
    assert all(ping(a, ip) for ip in b.ips)
    assert all(ping(one, ip) for ip in b.ips)


def test_an_address_that_no_pod_has_is_unreachable_at_once(shared: Cluster) -> None:
    node, _ = shared(*PAIR)
    a = node.add("a")
    said = a.run("ping", "-c", "1", "-W", "5", "10.244.1.200", check=False).stdout
    assert "Destination Host Unreachable" in said


def test_a_pod_is_told_when_its_packet_lived_too_long(shared: Cluster) -> None:
    node, _ = shared(*PAIR)
    a, b = node.add("a"), node.add("b")
    with counting(node, "from_pod") as packets:
        said = a.run("ping", "-c", "1", "-t", "1", b.ips[0], check=False).stdout
    assert f"From {node.ips[0]}" in said and "Time to live exceeded" in said
    assert packets["hop_limit"] == 1


@pytest.mark.parametrize("family", [0, 1])
def test_a_pod_learns_the_size_that_fits_through_the_overlay(shared: Cluster, family: int) -> None:
    """With ``auto`` a Pod from before the overlay has the uplink's MTU; the kernel tells it (N-20)."""
    one, two = shared(Spec(nodes=2, subnets=2), "--routing=auto", "--mtu=1500")
    a, b = one.add("a"), two.add("b")
    with counting(one, "from_pod") as packets:
        line = ["ping", "-M", "do", "-c", "2", "-W", "2", "-s", "1440", b.ips[family]]
        assert "1450" in a.run(*line, check=False).stdout
    assert packets["too_big"] == 1
    assert ping(a, b.ips[family], "-c", "2", "-s", "1440"), "smaller fragments pass, once both ends know"


def test_spoofed_packets_are_dropped_counted_and_told(shared: Cluster) -> None:
    node, _ = shared(*PAIR)
    a, b = node.add("a"), node.add("b")
    with counting(node, "from_pod") as packets:
        a.run("ip", "address", "add", "10.244.1.77/32", "dev", "eth0")
        assert not ping(a, b.ips[0], "-I", "10.244.1.77", "-W", "1")
        a.run("ip", "link", "set", "eth0", "address", "0a:00:00:00:00:99")
        assert not ping(a, b.ips[0], "-W", "1")
    assert packets["drop_spoofed_source"] >= 1
    assert packets["drop_spoofed_mac"] >= 1
    eventually(lambda: "drop_spoofed_source at from_pod" in node.log(), "the agent's log tells of it")


def test_pods_reach_the_outside_with_the_nodes_address(shared: Cluster) -> None:
    """World has no route to a Pod: masquerading there, and only there (N-08)."""
    node, _ = shared(*PAIR)
    a = node.add("a")
    for far in "8.8.8.8", "2001:4860:4860::8888":
        assert ping(a, far)
    world = Pod(node.path.parent / "world", "world")
    listen(world, "8.8.8.8", 5353)
    try:
        assert seen_as(a, "8.8.8.8", 5353) == node.ips[0]
    finally:
        world.close()


def test_exceptions_from_masquerading_see_the_pod(cluster: Cluster) -> None:
    [node] = cluster(Spec(nodes=1), "--masquerade-except=203.0.113.0/24")
    a = node.add("a")
    world = Pod(node.path.parent / "world", "world")
    router = node.path.parent / "underlay"
    enter(router, "ip", "route", "add", "10.244.1.0/24", "via", node.ips[0])
    listen(world, "203.0.113.10", 5353)
    try:
        assert seen_as(a, "203.0.113.10", 5353) == a.ips[0]
    finally:
        world.close()


def test_the_outside_reaches_a_pod_it_has_a_route_to(shared: Cluster) -> None:
    """Its answers must not be masqueraded: the host's connection tracking sees both directions."""
    node, _ = shared(*PAIR)
    a = node.add("a")
    enter(node.path.parent / "underlay", "ip", "route", "add", "10.244.1.0/24", "via", node.ips[0])
    listen(a, a.ips[0], 5000)
    world = Pod(node.path.parent / "world", "world")
    assert seen_as(world, a.ips[0], 5000) == "203.0.113.10"


@pytest.mark.parametrize("routing", ["native", "overlay"])
def test_connections_that_the_host_translates_stay_with_the_host(shared: Cluster, routing: str) -> None:
    """As with kube-proxy: a virtual address becomes another by DNAT; the answer must find its way back."""
    one, two = shared(Spec(nodes=2), f"--routing={routing}")
    a = one.add("a")
    chain = "chain ip services pre"
    one.run("nft", f"add table ip services; add {chain} {{ type nat hook prerouting priority -100; }}")
    backends: list[tuple[str, Pod | Node]] = [("10.96.0.10", one.add("b")), ("10.96.0.11", two.add("b"))]
    backends += [("10.96.0.12", two), ("10.96.0.13", one)]
    from_wire = "from_uplink" if routing == "native" else "from_overlay"
    with counting(one, "from_pod") as packets, counting(one, from_wire) as answers:
        for virtual, backend in backends:
            target = f"{backend.ips[0]}:5000"
            one.run("nft", f"add rule ip services pre ip daddr {virtual} udp dport 53 dnat to {target}")
            listen(backend, backend.ips[0], 5000)
            assert seen_as(a, virtual, 53) == a.ips[0]
    assert packets["stack_flow"] == 1
    assert answers["stack_flow"] >= 1


def test_a_port_of_the_node_that_leads_to_a_pod_answers_other_nodes(shared: Cluster) -> None:
    """As a NodePort does that keeps the client's address: the Pod's answer goes through the node's stack."""
    one, two = shared(*PAIR)
    a = one.add("a")
    chain = "chain ip services pre"
    one.run("nft", f"add table ip services; add {chain} {{ type nat hook prerouting priority -100; }}")
    one.run("nft", f"add rule ip services pre udp dport 30000 dnat to {a.ips[0]}:5000")
    listen(a, a.ips[0], 5000)
    assert seen_as(two, one.ips[0], 30000) == two.ips[0]


def test_the_overlay_takes_packets_only_from_the_node_they_belong_to(shared: Cluster) -> None:
    one, two = shared(*OVERLAY)
    b = two.add("b")
    forge = "ip link add forged type vxlan id 84 local {} remote {} dstport 4789 && ip link set forged up"
    world = Pod(one.path.parent / "world", "world")
    world.run("sh", "-c", forge.format("203.0.113.10", two.ips[0]))
    world.run("ip", "address", "add", "10.244.1.9/32", "dev", "forged")
    world.run("ip", "route", "add", b.ips[0], "dev", "forged")
    mac = "02:74:75:6c:6c:65"
    world.run("ip", "neighbour", "add", b.ips[0], "lladdr", mac, "dev", "forged")
    with counting(two, "from_overlay") as packets:
        assert not ping(world, b.ips[0], "-I", "10.244.1.9", "-W", "1")
    assert packets["drop_overlay_sender"] >= 1


@pytest.mark.parametrize("families", [("ipv4", "ipv6"), ("ipv6",)], ids=["ipv4-outside", "ipv6-outside"])
def test_the_overlay_is_by_the_nodes_own_address_whatever_else_it_has(
    cluster: Cluster, families: tuple[Literal["ipv4", "ipv6"], ...]
) -> None:
    """The other node takes no frame from an address that it does not know for ours."""
    one, two = cluster(Spec(nodes=2, families=families), "--routing=overlay")
    for other, prefix in ("172.30.1.99", 24), ("fd00:172:30:1::99", 64):
        one.run("ip", "address", "add", f"{other}/{prefix}", "dev", "eth0")
    preferred = one.ips[-1]
    if ":" in preferred:  # deprecated: the kernel prefers any other address as source
        one.run("ip", "address", "change", f"{preferred}/64", "dev", "eth0", "preferred_lft", "0")
    a, b = one.add("a"), two.add("b")
    for ip in b.ips:
        assert ping(a, ip), "by the program or the device"
        assert ping(a, ip, "-s", "4000"), "by the kernel's route"
    one.run("nft", "add table inet nat; add chain inet nat post { type nat hook postrouting priority 100; }")
    one.run("nft", "add rule inet nat post oifname tulle-overlay masquerade")
    listen(b, b.ips[0], 5000)
    assert seen_as(one, b.ips[0], 5000) == one.ips[0], "what the host masquerades"
