"""Every kind of probe, and what follows from each."""

from __future__ import annotations

from typing import Any

import pytest
from livelab import Pods, container_status, is_ready

FOREVER = ("sleep", "infinity")
FAST = {"periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 1}

# A gRPC server with one method: it answers what /state says (1 SERVING, 2 NOT_SERVING), in bare HTTP/2.
GRPC_SERVER = r"""
import socket
def frame(kind, flags, stream, body):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
listener = socket.create_server(("::", 9000), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    connection, _ = listener.accept()
    with connection:
        seen = b""
        while b"\x00\x00\x00\x00\x00" not in seen[24:] and (chunk := connection.recv(4096)):
            seen += chunk
        state = bytes([8, int(open("/state/health").read())])
        connection.sendall(
            frame(4, 0, 0, b"") + frame(1, 4, 1, b"\x88")
            + frame(0, 0, 1, b"\0" + len(state).to_bytes(4, "big") + state) + frame(1, 5, 1, b"\x88")
        )
"""
STATE = {
    "volumeMounts": [{"name": "state", "mountPath": "/state"}],
    "volumes": [{"name": "state", "emptyDir": {}}],
}


def python(code: str) -> tuple[str, ...]:
    return ("python3", "-c", code)


def http_server() -> tuple[str, ...]:
    """Answers 200 while /state/health says 1, else 503, to whoever sends the header ``X-Probe: yes``."""
    return python(
        "import http.server as s\n"
        "class Handler(s.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        well = open('/state/health').read() == '1' and self.headers['X-Probe'] == 'yes'\n"
        "        self.send_response(200 if well else 503); self.end_headers()\n"
        "s.test(Handler, s.ThreadingHTTPServer, port=9000, bind='::')\n"
    )


PROBES = {
    "exec": (FOREVER, {"exec": {"command": ["grep", "-q", "1", "/state/health"]}}),
    "httpGet": (
        http_server(),
        {"httpGet": {"port": "web", "path": "x", "httpHeaders": [{"name": "X-Probe", "value": "yes"}]}},
    ),
    "grpc": (python(GRPC_SERVER), {"grpc": {"port": 9000}}),
}


async def set_health(pods: Pods, value: int) -> None:
    await pods.run("p", "sh", "-c", f"printf {value} > /state/health")


@pytest.mark.parametrize("kind", PROBES)
async def test_readiness_follows_the_probe(pods: Pods, kind: str) -> None:
    command, action = PROBES[kind]
    ports = [{"name": "web", "containerPort": 9000}]
    await pods.create("p", *command, readinessProbe={**FAST, **action}, ports=ports, **STATE)
    await pods.until("p", lambda pod: container_status(pod).get("started"))
    for value, wanted in ((1, True), (2, False), (1, True)):
        await set_health(pods, value)
        await pods.until("p", lambda pod, wanted=wanted: pod and is_ready(pod) is wanted)
    assert (await pods.event("p", "Unhealthy")).startswith("Readiness probe failed")


async def test_tcp_readiness(pods: Pods) -> None:
    server = "import os, socket, time\nwhile not os.path.exists('/state/go'): time.sleep(0.05)\n"
    server += "s = socket.create_server(('', 9000)); time.sleep(1e6)"
    await pods.create("p", *python(server), readinessProbe={**FAST, "tcpSocket": {"port": 9000}}, **STATE)
    await pods.until("p", lambda pod: container_status(pod).get("started"))
    await pods.run("p", "touch", "/state/go")
    await pods.ready("p")


async def test_a_container_that_is_not_alive_is_started_again(pods: Pods) -> None:
    probe = {**FAST, "exec": {"command": ["test", "!", "-e", "/state/ill"]}}
    command = ("bash", "-c", "rm -f /state/ill; trap 'exit 9' TERM; sleep infinity & wait")
    await pods.create("p", *command, livenessProbe=probe, **STATE)
    await pods.ready("p")
    await pods.run("p", "touch", "/state/ill")
    pod = await pods.until("p", lambda pod: container_status(pod).get("restartCount") == 1 and is_ready(pod))
    assert container_status(pod)["lastState"]["terminated"]["exitCode"] == 9
    assert await pods.event("p", "Killing") == "Container main failed liveness probe, will be restarted"


async def test_other_probes_wait_for_the_startup_probe(pods: Pods) -> None:
    spec: dict[str, Any] = {
        "startupProbe": {**FAST, "failureThreshold": 30, "exec": {"command": ["test", "-e", "/state/up"]}},
        "livenessProbe": {**FAST, "exec": {"command": ["test", "-e", "/state/up"]}},
        **STATE,
    }
    await pods.create("p", *FOREVER, **spec)
    await pods.until("p", lambda pod: container_status(pod).get("state", {}).get("running"))
    await pods.run("p", "touch", "/state/up")
    pod = await pods.ready("p")
    assert container_status(pod)["restartCount"] == 0
    assert container_status(pod)["started"] is True


async def test_a_container_that_does_not_start_is_started_again(pods: Pods) -> None:
    probe = {**FAST, "exec": {"command": ["false"]}}
    command = ("bash", "-c", "trap 'exit 0' TERM; sleep infinity & wait")
    await pods.create("p", *command, startupProbe=probe)
    await pods.until("p", lambda pod: container_status(pod).get("restartCount") == 1)


@pytest.mark.parametrize(("script", "restarts"), [("touch /state/hook", 0), ("exit 1", 1)])
async def test_post_start(pods: Pods, script: str, restarts: int) -> None:
    hook = {"postStart": {"exec": {"command": ["sh", "-c", script]}}}
    command = ("bash", "-c", "trap 'exit 0' TERM; sleep infinity & wait")
    await pods.create("p", *command, lifecycle=hook, **STATE)
    pod = await pods.until("p", lambda pod: container_status(pod).get("restartCount") == restarts)
    if restarts == 0:
        await pods.ready("p")
        await pods.run("p", "test", "-e", "/state/hook")
    else:
        assert pod and not is_ready(pod)
