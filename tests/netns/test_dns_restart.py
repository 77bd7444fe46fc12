"""No query is lost when the worker, the supervisor or both are killed or replaced while queries come in."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_node import V4, V6, DnsNode, eventually

from tulle.kernel import netns

SO_RCVBUFFORCE = 33
"""All answers to what waited come at once, to one socket here; no resolver asks so much from one."""

NAME = b"\x03web\x07default\x03svc\x07cluster\x05local\0"
OBJECTS: list[tuple[str, dict[str, Any]]] = [
    ("n", {"metadata": {"name": "default"}}),
    (
        "s",
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"]},
        },
    ),
]


MOST_WAITING = 4000
"""Queries that may wait for an answer, well within the server's buffer: a busy machine takes long to start
the next worker."""


class Load(threading.Thread):
    """A query a millisecond, whether others are answered or not, until ``finish``; each must be answered once
    at least, and well.
    """

    def __init__(self, node: DnsNode, server: str) -> None:
        super().__init__(name=f"queries to {server}")
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with netns.entered(node.path):
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self._socket.connect((server, 53))
        self._socket.setblocking(False)
        self._over = threading.Event()
        self._waiting: set[int] = set()
        self.sent = self.bad = self.answered = 0

    def run(self) -> None:
        while not self._over.is_set() and self.sent < 60_000:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.add(self.sent)
                self._socket.send(struct.pack("!HHHHHH", self.sent, 0x100, 1, 0, 0, 0) + NAME + b"\0\1\0\1")
                self.sent += 1
            self._receive(time.monotonic() + 0.001)

    def _receive(self, until: float, last: bool = False) -> None:
        """Up to the time ``until``; at the ``last`` only while an answer is missing."""
        while (patience := until - time.monotonic()) > 0 and (self._waiting or not last):
            if select.select([self._socket], [], [], patience)[0]:
                answer = self._socket.recv(4096)
                self._waiting.discard(int.from_bytes(answer[:2]))
                self.answered += 1
                self.bad += answer[3] & 0xF != 0 or answer[-4:] != bytes((10, 96, 0, 5))

    def finish(self) -> tuple[int, int]:
        """(lost, wrong): what is not answered half a minute after the last query is lost."""
        self._over.set()
        self.join()
        self._receive(time.monotonic() + 30.0, last=True)
        self._socket.close()
        return len(self._waiting), self.bad


@pytest.fixture
def node(tmp_path: Path) -> Iterator[DnsNode]:
    made = DnsNode(tmp_path / "node")
    try:
        made.write_snapshot(OBJECTS)
        yield made
    finally:
        made.close()


def under_load(node: DnsNode, work: Callable[[list[Load]], None]) -> None:
    loads = [Load(node, V4), Load(node, V6)]
    for load in loads:
        load.start()
    eventually(lambda: all(load.answered > 50 for load in loads), "queries are answered")
    try:
        work(loads)
    finally:
        results = [load.finish() for load in loads]
    assert results == [(0, 0), (0, 0)], f"(lost, wrong) of {[load.sent for load in loads]}\n{node.log()}"


def go_on(loads: list[Load]) -> None:
    """Until queries that are sent from now on have been answered."""
    marks = [load.answered + 300 for load in loads]
    eventually(lambda: all(load.answered > mark for load, mark in zip(loads, marks, strict=True)), "answers")


def test_a_killed_worker_loses_no_query(node: DnsNode) -> None:
    server = node.start()

    def work(loads: list[Load]) -> None:
        for _ in range(3):
            killed = node.worker(server)
            os.kill(killed, signal.SIGKILL)
            eventually(lambda killed=killed: node.worker(server) != killed, "another worker runs")
            go_on(loads)

    under_load(node, work)
    assert server.poll() is None


def test_a_new_server_takes_over_without_losing_a_query(node: DnsNode) -> None:
    old = node.start()

    def work(loads: list[Load]) -> None:
        for _ in range(2):
            nonlocal old
            new = node.start()
            assert old.wait(15) == 0, "the old one ends by itself"
            go_on(loads)
            old = new

    under_load(node, work)
    assert V4 in node.run("ip", "address", "show", "lo").stdout, (
        "the addresses stay: the last one is not gone"
    )


def test_a_killed_supervisor_is_survived_and_replaced(node: DnsNode) -> None:
    old = node.start()
    worker = node.worker(old)

    def work(loads: list[Load]) -> None:
        old.kill()
        old.wait(10)
        go_on(loads)
        new = node.start()
        eventually(lambda: not Path(f"/proc/{worker}/exe").exists(), "the orphan ends")
        go_on(loads)
        assert new.poll() is None

    under_load(node, work)


def test_a_new_server_that_fails_leaves_the_old_one_alone(node: DnsNode) -> None:
    old = node.start()

    def work(loads: list[Load]) -> None:
        broken = node.start("--kubeconfig=/nowhere", ready=False)
        eventually(lambda: "/nowhere" in node.log(), "its worker fails")
        broken.kill()
        broken.wait(10)
        go_on(loads)

    under_load(node, work)
    assert old.poll() is None


def test_a_worker_that_is_told_to_end_is_replaced(node: DnsNode) -> None:
    server = node.start()
    first = node.worker(server)

    def work(loads: list[Load]) -> None:
        os.kill(first, signal.SIGTERM)
        eventually(lambda: node.worker(server) != first, "another worker runs")
        go_on(loads)

    under_load(node, work)


def test_d28_a_restart_without_the_api_answers_from_the_snapshot(node: DnsNode) -> None:
    server = node.start()
    server.kill()
    server.wait(10)
    for each in node._orphans():
        os.kill(each, signal.SIGKILL)
    node.start()
    assert node.dig(f"@{V4}", "+short", "web.default.svc.cluster.local") == "10.96.0.5"


def test_the_supervisor_is_small(node: DnsNode) -> None:
    server = node.start()
    status = Path(f"/proc/{server.pid}/status").read_text()
    [kib] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert kib < 16 * 1024


def test_another_users_socket_is_not_taken_for_a_predecessor(node: DnsNode) -> None:
    script = (
        "import os,socket,sys\n"
        "os.setuid(65534)\n"
        "s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n"
        f"s.bind('\\0tulle-dns {V4} 53')\n"
        "s.listen(1)\nprint('bound',flush=True)\nsys.stdin.read()"
    )
    squatter = subprocess.Popen(
        ["nsenter", f"--net={node.path}", "python3", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert squatter.stdout and squatter.stdout.readline()
        node.start()
        assert node.dig(f"@{V4}", "+short", "web.default.svc.cluster.local") == "10.96.0.5"
    finally:
        squatter.kill()
        squatter.communicate()


def test_d28_ten_thousand_services_fit_into_60_mb_and_any_is_answered(node: DnsNode) -> None:
    def one(number: int) -> tuple[str, dict[str, Any]]:
        address = f"10.97.{number // 256}.{number % 256}"
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
        spec = {"clusterIP": address, "clusterIPs": [address], "ports": ports}
        return "s", {"metadata": {"name": f"s{number}", "namespace": "default"}, "spec": spec}

    node.write_snapshot([OBJECTS[0], *map(one, range(10_000))])
    server = node.start()
    for number in (0, 4_999, 9_999):
        found = node.dig(f"@{V4}", "+short", f"s{number}.default.svc.cluster.local")
        assert found == f"10.97.{number // 256}.{number % 256}"
    status = Path(f"/proc/{node.worker(server)}/status").read_text()
    [kib] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert kib < 60 * 1024
