"""Names outside the zone, through the real process: upstreams, aliases, reload (D-09, D-23, D-26)."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_node import V4, DnsNode, eventually

from tulle.kernel import netns

OBJECTS: list[tuple[str, dict[str, Any]]] = [
    ("n", {"metadata": {"name": "default"}}),
    (
        "s",
        {
            "metadata": {"name": "out", "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": "www.example.com"},
        },
    ),
    (
        "s",
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"]},
        },
    ),
]


class Upstream(threading.Thread):
    """Answers every A query with ``address``, and everything else with nothing, until it is closed."""

    def __init__(self, node: DnsNode, own: str, address: str) -> None:
        super().__init__(name=f"upstream {own}")
        self._address = socket.inet_aton(address)
        with netns.entered(node.path):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((own, 53))
        self.names: list[bytes] = []

    def run(self) -> None:
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            end = data.index(b"\0", 12) + 5
            self.names.append(data[12 : end - 4])
            wanted = data[end - 4 : end - 2] == b"\0\1"
            head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, wanted, 0, 0)
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + self._address if wanted else b""
            self._socket.sendto(head + data[12:end] + record, client)

    def close(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self.join(10)
        self._socket.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DnsNode]:
    made = DnsNode(tmp_path / "node")
    upstreams = [Upstream(made, "127.0.0.1", "192.0.2.1"), Upstream(made, "127.0.0.2", "192.0.2.2")]
    for upstream in upstreams:
        upstream.start()
    try:
        made.write_snapshot(OBJECTS)
        yield made
    finally:
        made.close()
        for upstream in upstreams:
            upstream.close()


def test_d23_other_names_go_to_the_upstream_of_the_file_as_it_is_now(node: DnsNode) -> None:
    node.start()
    for how in ("+notcp", "+tcp"):
        assert node.dig(f"@{V4}", how, "+short", "www.example.com") == "192.0.2.1"
    (node.folder / "resolv.conf").write_text("nameserver 127.0.0.2\n")
    eventually(lambda: node.dig(f"@{V4}", "+short", "www.example.com") == "192.0.2.2", "the other upstream")
    assert node.dig(f"@{V4}", "+short", "web.default.svc.cluster.local") == "10.96.0.5"


def test_d09_an_alias_comes_with_what_its_target_resolves_to(node: DnsNode) -> None:
    node.start()
    for how in ("+notcp", "+tcp"):
        found = node.dig(f"@{V4}", how, "+short", "out.default.svc.cluster.local")
        assert found == "www.example.com.\n192.0.2.1"
    assert node.dig(f"@{V4}", "+short", "out.default.svc.cluster.local", "AAAA") == "www.example.com."


def test_d26_a_corefile_counts_as_long_as_it_is_right(node: DnsNode) -> None:
    corefile = node.folder / "Corefile"
    corefile.write_text(
        ".:53 {\n  rewrite name old.example web.default.svc.cluster.local\n"
        "  hosts {\n    192.0.2.7 fixed.example\n    fallthrough\n  }\n"
        "  kubernetes cluster.local in-addr.arpa ip6.arpa {\n    ttl 11\n  }\n"
        "  forward . 127.0.0.1\n}\nstub.example:53 {\n  forward . 127.0.0.2\n}\n"
    )
    node.start(f"--corefile={corefile}")

    def short(name: str) -> str:
        return node.dig(f"@{V4}", "+short", name)

    eventually(lambda: short("fixed.example") == "192.0.2.7", "hosts count")
    assert short("old.example") == "10.96.0.5", "a rewrite leads into the zone"
    assert short("a.stub.example") == "192.0.2.2"
    assert short("www.example.com") == "192.0.2.1"
    assert node.dig(f"@{V4}", "+noall", "+answer", "web.default.svc.cluster.local").split()[1] == "11"
    assert "NXDOMAIN" in node.dig(f"@{V4}", "10-1-2-3.default.pod.cluster.local"), "pods are off by default"
    corefile.write_text(".:53 {\n  forward . not-an-address\n}\n")
    eventually(lambda: "coredns_reload_failed_total 1" in node.get("/metrics")[1], "the failure is counted")
    assert short("a.stub.example") == "192.0.2.2", "the last good one goes on counting"
    assert "line 2" in node.log()
    corefile.write_text(".:53 {\n  forward . 127.0.0.2\n}\n")
    eventually(lambda: short("www.example.com") == "192.0.2.2", "the next good one counts")
    assert "Traceback" not in node.log()
