"""exec as kubectl up to 1.30 asks for it: over SPDY, which newer ones speak when they are told to."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import pty
import random
import struct
import subprocess
import termios
from collections.abc import AsyncIterator

import pytest_asyncio
from livelab import Cluster, Pods, waits_for

NO_WEBSOCKETS = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}
PATIENCE = 90.0


class Kubectl:
    """``kubectl exec`` in one Pod, over SPDY."""

    def __init__(self, lab: Cluster, namespace: str) -> None:
        self._base = ["kubectl", f"--kubeconfig={lab.paths.kubeconfig}", f"--namespace={namespace}"]

    async def __call__(self, *words: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        return await asyncio.to_thread(
            subprocess.run,
            [*self._base, *words],
            input=given,
            capture_output=True,
            timeout=PATIENCE,
            env=os.environ | NO_WEBSOCKETS,
        )

    def on_a_terminal(self, *words: str) -> tuple[subprocess.Popen[bytes], int]:
        """A terminal of 33 lines of 77 characters; the caller has its other end to close."""
        ours, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
        process = subprocess.Popen([*self._base, *words], env=os.environ | NO_WEBSOCKETS, **streams)
        os.close(terminal)
        return process, ours


@pytest_asyncio.fixture
async def kubectl(lab: Cluster, pods: Pods) -> AsyncIterator[Kubectl]:
    await pods.create("p", "sleep", "infinity")
    await pods.ready("p")
    yield Kubectl(lab, pods.namespace)


async def test_output_and_exit_code(kubectl: Kubectl) -> None:
    done = await kubectl("exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.stdout, done.returncode) == (b"out\n", 5)
    assert done.stderr == b"err\ncommand terminated with exit code 5\n"
    done = await kubectl("exec", "-v=6", "p", "--", "true")
    assert b"POST" in done.stderr and b"101 Switching Protocols" in done.stderr


async def test_a_megabyte_there_and_back(kubectl: Kubectl) -> None:
    """Far more than the 64 KiB that SPDY lets pass unacknowledged."""
    sent = random.Random(1).randbytes(1 << 20)
    done = await kubectl("exec", "-i", "p", "--", "sha256sum", given=sent)
    assert done.stdout.decode().split()[0] == hashlib.sha256(sent).hexdigest()
    assert (await kubectl("exec", "-i", "p", "--", "cat", given=sent)).stdout == sent


async def test_a_command_that_does_not_read_all_it_is_sent(kubectl: Kubectl) -> None:
    done = await kubectl("exec", "-i", "p", "--", "head", "-c5", given=b"12345" + bytes(1 << 20))
    assert (done.stdout, done.returncode) == (b"12345", 0)


async def test_a_terminal(kubectl: Kubectl) -> None:
    """It has the size of the user's own, takes what is typed, and its command's exit code comes back."""
    script = 'until [ "$(stty size)" = "33 77" ]; do sleep 0.1; done; echo ready; read x; echo got $x; exit 3'
    process, ours = kubectl.on_a_terminal("exec", "-it", "p", "--", "sh", "-c", script)
    try:
        await asyncio.to_thread(_heard, ours, b"ready")
        os.write(ours, b"typed\r")
        await asyncio.to_thread(_heard, ours, b"got typed")
        assert await asyncio.to_thread(process.wait, PATIENCE) == 3
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _heard(terminal: int, wanted: bytes) -> None:
    """Raises OSError when the other end is closed before ``wanted`` was read."""
    heard = b""
    while wanted not in heard:
        heard += os.read(terminal, 1 << 12)


async def test_what_cannot_be_is_said(lab: Cluster, pods: Pods, kubectl: Kubectl) -> None:
    await pods.create("q", "false")
    await pods.until("q", waits_for("CrashLoopBackOff"))
    done = await kubectl("exec", "q", "--", "true")
    assert b"container main does not run" in done.stderr
    done = await kubectl("port-forward", "p", "8080:80")
    assert b"port forwarding is not served" in done.stderr
    assert (await kubectl("exec", "p", "--", "no-such-command")).returncode != 0
