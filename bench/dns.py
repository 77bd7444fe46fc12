"""``tulle dns`` with 10,000 Services, asked by dnsperf: how many queries, how soon, with how much memory."""

from __future__ import annotations

import json
import re
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import naming
from bench.nodes import NO_API
from bench.statistics import Figure, percentile
from tulle.errors import LabError
from tulle.kernel import netns, prerequisites

_SERVICES = 10_000
_ADDRESS = "10.96.0.10"
_SECONDS = 4
_HALF = 6_000  # queries a second at which the latency counts: half of what is promised
_NEW = 50  # Services that are created in a round
_PATIENCE = 20.0


def measure(folder: Path, rounds: int, tick: Callable[[str], None]) -> list[Figure]:
    """Hits, misses in the zone (each external name begins with some) and TCP, at full speed; then at half."""
    prerequisites.require_command("dnsperf", "measuring DNS", "dnsperf")
    _write(folder)
    found: dict[str, list[float]] = {"hits": [], "misses": [], "tcp": [], "p99": [], "memory": []}
    found |= {"p50": [], "longest": []}
    with _server(folder) as (place, server):
        for number in range(rounds):
            tick(f"round {number + 1} of {rounds}")
            found["hits"].append(_per_second(_dnsperf(place, folder / "hits")))
            found["misses"].append(_per_second(_dnsperf(place, folder / "misses")))
            found["tcp"].append(_per_second(_dnsperf(place, folder / "hits", "-m", "tcp")))
            half = _dnsperf(place, folder / "hits", "-v", "-Q", str(_HALF))
            found["p99"].append(_p99(half) * 1000)
            found["memory"].append(_resident(server))
            soonest = naming.delays(folder / f"naming-{number}", _SERVICES, _NEW)
            found["p50"].append(statistics.median(soonest))
            found["longest"].append(max(soonest))
    size = f"{_SERVICES:,} Services"
    return [
        Figure("dns", f"cluster names, {size}, UDP", "1/s", tuple(found["hits"]), 12_000),
        Figure("dns", "names that do not exist, UDP", "1/s", tuple(found["misses"]), 12_000),
        Figure("dns", "cluster names, TCP", "1/s", tuple(found["tcp"])),
        Figure("dns", f"answer at {_HALF:,} queries/s, p99", "ms", tuple(found["p99"]), 3, "lower"),
        Figure("dns", f"memory of the worker, {size}", "MB", tuple(found["memory"]), 60, "lower"),
        Figure("dns", "a new Service has its name, p50", "ms", tuple(found["p50"]), 50, "lower"),
        Figure("dns", "a new Service has its name, longest", "ms", tuple(found["longest"]), 50, "lower"),
    ]


def _write(folder: Path) -> None:
    """A snapshot of the cluster, and what is asked about it."""
    lines = ["n" + json.dumps({"metadata": {"name": "default"}})]
    for number in range(_SERVICES):
        address = f"10.97.{number // 256}.{number % 256}"
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
        spec = {"clusterIP": address, "clusterIPs": [address], "ports": ports}
        lines.append(
            "s" + json.dumps({"metadata": {"name": f"s{number}", "namespace": "default"}, "spec": spec})
        )
    (folder / "state").mkdir()
    (folder / "state" / "dns.jsonl").write_text("\n".join([*lines, ".", ""]))
    (folder / "kubeconfig").write_text(NO_API)
    zone = "default.svc.cluster.local"
    (folder / "hits").write_text("".join(f"s{n}.{zone} A\n" for n in range(_SERVICES)))
    (folder / "misses").write_text("".join(f"www{n}.example.com.{zone} A\n" for n in range(_SERVICES)))


@contextmanager
def _server(folder: Path) -> Iterator[tuple[Path, int]]:
    """(network namespace, process ID of the supervisor)."""
    place, log = folder / "netns", folder / "log"
    netns.create(place)
    try:
        subprocess.run(["nsenter", f"--net={place}", "ip", "link", "set", "lo", "up"], check=True)
        command = ["nsenter", f"--net={place}", sys.executable, "-m", "tulle", "dns", "--assign"]
        command += [f"--listen={_ADDRESS}", f"--kubeconfig={folder / 'kubeconfig'}"]
        command += [f"--state-dir={folder / 'state'}"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + _PATIENCE
            while "answering on" not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise LabError(f"tulle dns does not answer; its log:\n{log.read_text()}")
                select.select([], [], [], 0.05)
            yield place, process.pid
        finally:
            process.terminate()
            process.wait(_PATIENCE)
    finally:
        netns.delete(place)


def _dnsperf(place: Path, queries: Path, *more: str) -> str:
    command = ["nsenter", f"--net={place}", "dnsperf", "-s", _ADDRESS, "-d", str(queries)]
    command += ["-l", str(_SECONDS), "-c", "8", "-q", "100", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS + _PATIENCE, check=False)
    if done.returncode or "Queries lost:         0 " not in done.stdout:
        raise LabError(f"dnsperf lost queries or failed:\n{done.stdout[-2000:]}{done.stderr}")
    return done.stdout


def _per_second(text: str) -> float:
    found = re.search(r"Queries per second: +([\d.]+)", text)
    assert found, text
    return float(found[1])


def _p99(text: str) -> float:
    """Of the seconds that end each line of ``-v``."""
    seconds = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("> NOERROR")]
    return percentile(seconds, 0.99)


def _resident(supervisor: int) -> float:
    """MB of the supervisor's one child."""
    child = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()[0]
    status = Path(f"/proc/{child}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found, status
    return int(found[1]) * 1024 / 1e6
