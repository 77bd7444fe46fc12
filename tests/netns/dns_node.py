"""``tulle dns`` as a process in a network namespace of its own, with a snapshot instead of an API."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nodes import NOBODY, Place

from tulle.kernel import netns

V4, V6 = "10.96.0.10", "fd00:10:96::a"
TULLE = Path(sys.executable).with_name("tulle")


def eventually(condition: Callable[[], Any], what: str, patience: float = 90.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        select.select([], [], [], 0.02)


class DnsNode(Place):
    """``start`` returns when queries are answered. All that it started ends with ``close``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "netns")
        self.folder = folder
        self.servers: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True)
        netns.create(self.path)
        self.run("ip", "link", "set", "lo", "up")
        (folder / "kubeconfig").write_text(NOBODY)
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")

    def write_snapshot(self, objects: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """(kind's letter, object) each."""
        state = self.folder / "state"
        state.mkdir(exist_ok=True)
        lines = [letter + json.dumps(value) for letter, value in objects]
        (state / "dns.jsonl").write_text("\n".join([*lines, ".", ""]))

    def start(self, *flags: str, ready: bool = True) -> subprocess.Popen[bytes]:
        options = {
            "kubeconfig": self.folder / "kubeconfig",
            "state-dir": self.folder / "state",
            "upstream-file": self.folder / "resolv.conf",
        }
        command = ["nsenter", f"--net={self.path}", str(TULLE), "dns", "--assign"]
        command += [f"--listen={V4}", f"--listen={V6}", *(f"--{k}={v}" for k, v in options.items()), *flags]
        before = self.log().count("answering on")
        with (self.folder / "log").open("ab") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        self.servers.append(server)
        if ready:
            eventually(
                lambda: self.log().count("answering on") > before or server.poll() is not None, "it serves"
            )
            assert server.poll() is None, self.log()
        return server

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def worker(self, server: subprocess.Popen[bytes]) -> int:
        """The process ID of the one child of a supervisor."""
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        eventually(lambda: children.read_text().split(), "a worker runs")
        return int(children.read_text().split()[0])

    def dig(self, *words: str) -> str:
        return self.run("dig", "+time=10", "+tries=1", *words).stdout.strip()

    def get(self, path: str, address: str = V4) -> tuple[int, str]:
        """(status, text) of one of the pages."""
        host = f"[{address}]" if ":" in address else address
        script = (
            "import sys,urllib.request as r,urllib.error as e\n"
            "try:\n    a=r.urlopen(sys.argv[1],timeout=5)\nexcept e.HTTPError as f:\n    a=f\n"
            "print(a.status);print(a.read().decode())"
        )
        out = self.run(sys.executable, "-c", script, f"http://{host}:9153{path}").stdout
        status, _, text = out.partition("\n")
        return int(status), text

    def close(self) -> None:
        super().close()
        for server in self.servers:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
                server.wait(15)
        for each in self._orphans():
            os.kill(each, signal.SIGKILL)
        netns.delete(self.path)

    def _orphans(self) -> list[int]:
        """Workers whose supervisor a test has killed: those with this test's own folder in their command."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = path.read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in command and b"tulle.dns.worker" in command:
                found.append(int(path.parent.name))
        return found
