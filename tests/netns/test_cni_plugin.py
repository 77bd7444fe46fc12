"""The static plugin by itself: what it answers without an agent, and how it hands a call over."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(str(files("tulle"))) / "_native" / "tulle-cni"
POD = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0"}
WITHOUT_AGENT = {"ADD": 11, "CHECK": 11, "GC": 11, "STATUS": 50, "": 11, "add": 11, "PRINT": 11}


def config(path: Path, **extra: Any) -> bytes:
    conf = {"cniVersion": "1.0.0", "name": "tulle", "type": "tulle-cni", "agentSocket": str(path)}
    return json.dumps(conf | extra).encode()


def call(command: str, stdin: bytes, environment: dict[str, str] = POD) -> tuple[int, bytes]:
    """(exit code, standard output); it does not wait for an agent that is not there."""
    environment = environment | {"CNI_COMMAND": command}
    done = subprocess.run(
        [PLUGIN], input=stdin, env=environment, capture_output=True, timeout=30, check=False
    )
    assert done.stderr == b""
    return done.returncode, done.stdout


@contextmanager
def agent(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """Reads one call, gives this answer and ends; the list has the call after the block."""
    calls: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            with connection.makefile("rb") as stream:
                calls.append(stream.read())
            connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(30)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield calls
        finally:
            thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cni.sock"


@pytest.mark.parametrize(("command", "code"), WITHOUT_AGENT.items())
def test_without_an_agent(path: Path, command: str, code: int) -> None:
    exit_code, said = call(command, config(path))
    error = json.loads(said)
    assert exit_code == 1
    assert (error["cniVersion"], error["code"], error["details"]) == ("1.0.0", code, str(path))
    assert "agent is not running" in error["msg"]


def test_version_needs_nobody(path: Path) -> None:
    for stdin in (config(path), b'{"cniVersion": "0.4.0"}', b""):
        exit_code, said = call("VERSION", stdin, {})
        assert exit_code == 0
        versions = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]
        assert json.loads(said) == {"cniVersion": "1.1.0", "supportedVersions": versions}


@pytest.mark.parametrize("run_dir", ["", "not-there-yet"])
def test_del_is_queued(tmp_path: Path, run_dir: str) -> None:
    path = tmp_path / run_dir / "cni.sock"
    old_mask = os.umask(0o022)
    try:
        for _ in range(2):
            assert call("DEL", config(path)) == (0, b"")
    finally:
        os.umask(old_mask)
    folder = path.with_name("cni.sock.del")
    [file] = folder.iterdir()
    assert file.name == "c1:eth0"
    assert [p.stat().st_mode & 0o777 for p in (folder, file)] == [0o700, 0o600]
    environment, _, stdin = file.read_bytes().partition(b"\0\0")
    entries = [f"{name}={value}" for name, value in (POD | {"CNI_COMMAND": "DEL"}).items()]
    assert sorted(environment.decode().split("\0")) == sorted(entries)
    assert stdin == config(path)


@pytest.mark.parametrize(
    "broken",
    [{"CNI_CONTAINERID": ""}, {"CNI_IFNAME": ""}, {"CNI_CONTAINERID": "../c1"}, {"CNI_IFNAME": "a/b"}],
)
def test_del_that_names_nothing_is_refused(path: Path, broken: dict[str, str]) -> None:
    exit_code, said = call("DEL", config(path), POD | broken)
    assert (exit_code, json.loads(said)["code"]) == (1, 4)
    assert not path.with_name("cni.sock.del").exists()


def test_del_that_cannot_be_queued_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    exit_code, said = call("DEL", config(tmp_path / "file" / "cni.sock"))
    error = json.loads(said)
    assert (exit_code, error["code"], error["details"]) == (1, 5, "Not a directory")


@pytest.mark.parametrize(
    ("answer", "exit_code", "said"),
    [
        (b'0{"ips":[]}\n', 0, b'{"ips":[]}'),
        (b'1{"code":7}\n', 1, b'{"code":7}'),
        (b"0\n", 0, b""),
        (b"0" + bytes(300_000) + b"\n", 0, bytes(300_000)),
    ],
)
def test_call_and_answer(path: Path, answer: bytes, exit_code: int, said: bytes) -> None:
    stdin = config(path, prevResult={"cniVersion": "1.0.0"})
    with agent(path, answer) as calls:
        assert call("ADD", stdin, POD | {"HOME": "/root"}) == (exit_code, said)
    environment, _, body = calls[0].partition(b"\0\0")
    assert body == stdin
    assert b"HOME" not in environment
    assert dict(e.split("=", 1) for e in environment.decode().split("\0")) == POD | {"CNI_COMMAND": "ADD"}


@pytest.mark.parametrize("part", [b"", b"0", b'0{"ips":[{"addr'])
def test_agent_that_dies_while_it_answers(path: Path, part: bytes) -> None:
    """Nothing of a half answer reaches the runtime, and a DEL is as good as one without an agent."""
    with agent(path, part):
        exit_code, said = call("ADD", config(path))
    assert (exit_code, json.loads(said)["code"]) == (1, 11)
    path.unlink()
    with agent(path, part):
        assert call("DEL", config(path)) == (0, b"")
    assert [p.name for p in path.with_name("cni.sock.del").iterdir()] == ["c1:eth0"]


@pytest.mark.parametrize(
    "stdin",
    [
        b"",
        b"\0\0\0",
        b"not JSON",
        b'{"cniVersion',
        b'{"cniVersion":',
        b'{"cniVersion": "1.0.0',
        b'{"cniVersion": "a\\"b"}',
        b'{"cniVersion": "a\nb"}',
        b'{"cniVersion": "' + b"9" * 5000 + b'"}',
        b'{"agentSocket": "' + b"x" * 5000 + b'"}',
        b'{"agentSocket": "\\u0041"}',
        b"[" * (5 << 20),
        bytes(5 << 20),
    ],
    ids=lambda stdin: repr(stdin[:20]),
)
def test_malformed_input_gives_an_error_object(stdin: bytes) -> None:
    """No agent is at the default socket here, so that the answer is the plugin's own."""
    exit_code, said = call("STATUS", stdin)
    error = json.loads(said)
    assert (exit_code, error["code"], error["details"]) == (1, 50, "/run/tulle/cni.sock")
    assert error["cniVersion"] == "1.1.0"


def test_what_is_too_large_goes_to_the_agent_cut_off(path: Path) -> None:
    """Which it refuses as no JSON; the plugin holds four MiB and no more."""
    with agent(path, b'1{"code":6}\n') as calls:
        assert call("ADD", config(path, padding="x" * (5 << 20))) == (1, b'{"code":6}')
    assert len(calls[0]) == (4 << 20) - 1
