"""``tulle dns`` as resolvers see it: dig, glibc, musl, over UDP and TCP, both families (D-21, D-22, D-28)."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_node import V4, V6, DnsNode, eventually

from tulle.kernel import netns

WEB = "web.default.svc.cluster.local"
SEARCH = "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"


def service(name: str, *ips: str, **spec: Any) -> tuple[str, dict[str, Any]]:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    given = {"clusterIP": ips[0] if ips else "", "clusterIPs": ips, "ports": ports, **spec}
    return "s", {"metadata": {"name": name, "namespace": "default"}, "spec": given}


def headless(name: str, count: int) -> list[tuple[str, dict[str, Any]]]:
    labels = {"kubernetes.io/service-name": name, "service.kubernetes.io/headless": ""}
    each = [
        {"addresses": [f"10.244.{n // 250}.{n % 250 + 1}"], "conditions": {"ready": True}}
        for n in range(count)
    ]
    part = {
        "metadata": {"name": f"{name}-1", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "endpoints": each,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }
    return [("e", part), service(name, "None")]


OBJECTS = [
    ("n", {"metadata": {"name": "default"}}),
    service("web", "10.96.0.5", "fd00:10:96::5"),
    *headless("big", 100),
    service("out", type="ExternalName", externalName=WEB),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DnsNode]:
    made = DnsNode(tmp_path_factory.mktemp("dns") / "node")
    try:
        made.write_snapshot(OBJECTS)
        made.start("--log-queries")
        yield made
    finally:
        made.close()


VECTORS = [
    ((WEB, "A"), "10.96.0.5"),
    ((WEB, "AAAA"), "fd00:10:96::5"),
    ((f"_http._tcp.{WEB}", "SRV"), f"0 100 80 {WEB}."),
    (("-x", "10.96.0.5"), f"{WEB}."),
    (("-x", "fd00:10:96::5"), f"{WEB}."),
    (("10-244-0-1.big.default.svc.cluster.local", "A"), "10.244.0.1"),
    (("out.default.svc.cluster.local", "A"), f"{WEB}.\n10.96.0.5"),
    (("dns-version.cluster.local", "TXT"), '"1.1.0"'),
    (("10-1-2-3.default.pod.cluster.local", "A"), "10.1.2.3"),
]


@pytest.mark.parametrize("server", [V4, V6])
@pytest.mark.parametrize("how", ["+notcp", "+tcp", "+noedns"])
def test_d21_dig_gets_every_record_over_udp_and_tcp(node: DnsNode, how: str, server: str) -> None:
    for words, expected in VECTORS:
        assert node.dig(f"@{server}", how, "+short", *words) == expected


def test_d21_a_long_answer_is_cut_over_udp_and_whole_over_tcp(node: DnsNode) -> None:
    name = "big.default.svc.cluster.local"
    cut = node.dig(f"@{V4}", "+ignore", "+noedns", name)
    assert " tc " in cut and cut.count("10.244.") == 29
    assert node.dig(f"@{V4}", "+short", name).count("10.244.") == 100, "dig asks again over TCP"


def test_d22_what_does_not_exist_is_said_with_an_soa(node: DnsNode) -> None:
    answer = node.dig(f"@{V4}", "nothing.default.svc.cluster.local")
    assert "NXDOMAIN" in answer and "SOA" in answer
    answer = node.dig(f"@{V4}", "default.svc.cluster.local")
    assert "NOERROR" in answer and "SOA" in answer


def test_d23_without_upstreams_the_answer_is_servfail_and_soon(node: DnsNode) -> None:
    assert "SERVFAIL" in node.dig(f"@{V4}", "www.example.com")


def with_resolv_conf(node: DnsNode, *command: str) -> str:
    """Runs with a resolv.conf as kubelet writes it, in a mount namespace of its own."""
    conf = node.folder / "pod-resolv.conf"
    conf.write_text(f"nameserver {V4}\n{SEARCH}")
    script = f'mount --bind {conf} $(readlink -f /etc/resolv.conf) && exec "$@"'
    return node.run("unshare", "-m", "sh", "-c", script, "sh", *command).stdout


LOOKUP = """
import socket, sys
found = {each[4][0] for each in socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)}
print(*sorted(found))
"""


@pytest.mark.parametrize("name", ["web", "web.default", "web.default.svc", WEB, f"{WEB}."])
def test_d22_glibc_finds_short_and_long_names(node: DnsNode, name: str) -> None:
    found = with_resolv_conf(node, sys.executable, "-c", LOOKUP, name)
    assert found.split() == ["10.96.0.5", "fd00:10:96::5"]


def test_d21_glibc_gets_all_of_a_long_answer(node: DnsNode) -> None:
    assert len(with_resolv_conf(node, sys.executable, "-c", LOOKUP, "big").split()) == 100


MUSL = r"""
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int main(int argc, char **argv) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *each;
  if (argc < 2 || getaddrinfo(argv[1], "80", &hints, &found)) return 1;
  for (each = found; each; each = each->ai_next) {
    char text[64];
    void *raw = each->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)each->ai_addr)->sin_addr
                                           : (void *)&((struct sockaddr_in6 *)each->ai_addr)->sin6_addr;
    puts(inet_ntop(each->ai_family, raw, text, sizeof text));
  }
}
"""


@pytest.fixture(scope="module")
def musl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("musl")
    (folder / "lookup.c").write_text(MUSL)
    subprocess.run(["musl-gcc", "-static", "-o", folder / "lookup", folder / "lookup.c"], check=True)
    return folder / "lookup"


def test_d22_musl_finds_short_and_long_names(node: DnsNode, musl: Path) -> None:
    for name in ("web", "web.default", WEB):
        assert sorted(with_resolv_conf(node, str(musl), name).split()) == ["10.96.0.5", "fd00:10:96::5"]
    assert len(with_resolv_conf(node, str(musl), "big").split()) >= 29


def query(name: str, ident: int) -> bytes:
    wire = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"
    return struct.pack("!HHHHHH", ident, 0x100, 1, 0, 0, 0) + wire + b"\0\1\0\1"


def test_d21_queries_on_one_connection_are_all_answered(node: DnsNode) -> None:
    with netns.entered(node.path):
        client = socket.create_connection((V4, 53), timeout=5)
    with client:
        whole = b"".join(len(each).to_bytes(2) + each for n in range(300) for each in [query(WEB, n)])
        client.sendall(whole)
        client.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    seen = []
    while received:
        length = int.from_bytes(received[:2])
        seen.append(int.from_bytes(received[2:4]))
        received = received[2 + length :]
    assert sorted(seen) == list(range(300))


def test_malformed_packets_and_silent_connections_do_no_harm(node: DnsNode) -> None:
    with netns.entered(node.path):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.create_connection((V4, 53), timeout=5)
    with udp, tcp:
        udp.connect((V4, 53))
        udp.settimeout(5)
        for size in range(80):
            udp.send(b"\0" * size)
            udp.send(query(WEB, 9)[: size or 1])
        udp.send(query(WEB, 4242))
        while udp.recv(4096)[:2] != (4242).to_bytes(2):
            pass
        tcp.sendall(b"\0\3abc")
        assert tcp.recv(10) == b"", "what is no message ends the connection"
    assert "Traceback" not in node.log()


def test_d30_pages_and_metrics(node: DnsNode) -> None:
    node.dig(f"@{V4}", WEB)
    for address in (V4, V6):
        assert node.get("/health", address) == (200, "OK\n")
        assert node.get("/ready", address) == (200, "OK\n")
    status, text = node.get("/metrics")
    assert status == 200
    for name in ("requests_total", "responses_total", "request_duration_seconds_bucket"):
        assert f"coredns_dns_{name}" in text
    assert "coredns_panics_total 0" in text
    assert node.get("/else")[0] == 404
    assert f'"A IN {WEB}. udp' in node.log(), "--log-queries"


def test_addresses_are_put_on_lo_and_taken_away(tmp_path: Path) -> None:
    node = DnsNode(tmp_path / "node")
    try:
        node.write_snapshot(OBJECTS)
        server = node.start()
        shown = json.loads(node.run("ip", "-j", "address", "show", "lo").stdout)[0]["addr_info"]
        assert {V4, V6} <= {each["local"] for each in shown}
        server.terminate()
        assert server.wait(15) == 0
        shown = json.loads(node.run("ip", "-j", "address", "show", "lo").stdout)[0]["addr_info"]
        assert {each["local"] for each in shown} == {"127.0.0.1", "::1"}
    finally:
        node.close()


def test_without_snapshot_and_api_nobody_is_told_that_a_name_does_not_exist(tmp_path: Path) -> None:
    node = DnsNode(tmp_path / "node")
    try:
        node.start()
        assert "SERVFAIL" in node.dig(f"@{V4}", WEB)
        assert node.get("/ready")[0] == 503 and node.get("/health")[0] == 200
    finally:
        node.close()


def test_wrong_flags_are_named(tmp_path: Path) -> None:
    node = DnsNode(tmp_path / "node")
    try:
        for flag in ("--listen=0.0.0.0", "--listen=x", "--zone=a..b", "--http-port=53", "--log-level=loud"):
            server = node.start(flag, ready=False)
            assert server.wait(15) == 2 and flag.partition("=")[0] in node.log()
        eventually(lambda: not node._orphans(), "nothing is left")
    finally:
        node.close()
