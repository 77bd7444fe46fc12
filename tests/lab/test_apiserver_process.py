"""``tulle apiserver`` as a process: what it keeps when it is killed, how it watches, whom it lets in."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from apiserver_process import ADMIN_TOKEN, NODE_TOKEN, TULLE, ApiServer, Kubectl

from tulle.errors import ApiUnreachable, Conflict
from tulle.kube.client import Client
from tulle.kube.config import load_kubeconfig
from tulle.kube.resources import CONFIGMAPS, NODES, PODS

ROOT_CA = "kube-root-ca.crt"
"""The controllers' own object in every namespace."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    running = ApiServer(tmp_path_factory.mktemp("apiserver"))
    running.start()
    yield running
    running.close()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ApiServer]:
    """One to be stopped and killed."""
    running = ApiServer(tmp_path)
    running.start()
    yield running
    running.close()


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[Client]:
    async with Client(load_kubeconfig(server.kubeconfig)) as administrator:
        yield administrator


@pytest.fixture
async def http(server: ApiServer) -> AsyncIterator[aiohttp.ClientSession]:
    """Anybody, without credentials."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(server.ca)))
    async with aiohttp.ClientSession(server.url, connector=connector) as session:
        yield session


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_a_kill_loses_no_acknowledged_write_and_no_event(mortal: ApiServer) -> None:
    """Three times the server is killed while objects are created; a watch goes on from where it was."""
    async with Client(load_kubeconfig(mortal.kubeconfig)) as client:
        start = (await client.list(CONFIGMAPS, "default")).resource_version
        acknowledged: set[str] = set()
        watched: list[str] = []

        async def create(number: int) -> None:
            name = f"c{number}"
            while name not in acknowledged:
                try:
                    await client.create(CONFIGMAPS, config_map(name), "default")
                    acknowledged.add(name)
                except Conflict:
                    acknowledged.add(name)
                except ApiUnreachable:
                    continue

        async def watch() -> None:
            version = start
            while len(watched) < 180:
                try:
                    async with aclosing(client.watch(CONFIGMAPS, version, namespace="default")) as events:
                        async for event in events:
                            version = event.item.version
                            if event.type == "ADDED" and event.item.key[1] != ROOT_CA:
                                watched.append(event.item.key[1])
                            if len(watched) == 180:
                                return
                except ApiUnreachable:
                    continue

        watcher = asyncio.create_task(watch(), name="watch")
        for batch in range(3):
            names = range(batch * 60, batch * 60 + 60)
            writers = [asyncio.create_task(create(number), name=f"create-{number}") for number in names]
            await asyncio.wait(writers, return_when=asyncio.FIRST_COMPLETED)
            before = set(acknowledged)
            mortal.kill()
            mortal.start()
            stored = {each["metadata"]["name"] for each in (await client.list(CONFIGMAPS, "default")).items}
            assert before <= stored
            await asyncio.gather(*writers)
        async with asyncio.timeout(90):
            await watcher
        assert sorted(watched) == sorted(acknowledged)


async def test_an_orderly_stop_ends_watches(mortal: ApiServer) -> None:
    async with Client(load_kubeconfig(mortal.kubeconfig)) as client:
        version = (await client.list(CONFIGMAPS, "default")).resource_version
        async with aclosing(client.watch(CONFIGMAPS, version, namespace="default")) as events:
            following = asyncio.ensure_future(anext(events, None))
            await client.create(CONFIGMAPS, config_map("first"), "default")
            first = await following
            assert first is not None and first.item.key == ("default", "first")
            rest = asyncio.ensure_future(anext(events, None))
            code = await asyncio.to_thread(mortal.stop)
            assert (code, await rest) == (0, None)


async def test_a_watch_can_begin_with_what_is_there(client: Client, server: ApiServer) -> None:
    """WatchList: the objects, then a bookmark that says so."""
    created = await client.create(CONFIGMAPS, config_map("here"), "kube-public")
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    path = f"/api/v1/namespaces/kube-public/configmaps?{query}&timeoutSeconds=1"
    done = await asyncio.to_thread(Kubectl(server, server.folder), "get", "--raw", path)
    events = [json.loads(line) for line in done.splitlines()]
    initial = [event["object"]["metadata"]["name"] for event in events if event["type"] == "ADDED"]
    assert "here" in initial
    end = next(event for event in events if event["type"] == "BOOKMARK")
    assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(end["object"]["metadata"]["resourceVersion"]) >= int(created["metadata"]["resourceVersion"])


async def test_pages_of_a_list(client: Client) -> None:
    for number in range(7):
        await client.create(CONFIGMAPS, config_map(f"p{number}"), "kube-node-lease")
    listed = await client.list(CONFIGMAPS, "kube-node-lease", limit=2)
    names = [each["metadata"]["name"] for each in listed.items]
    assert [name for name in names if name.startswith("p")] == [f"p{number}" for number in range(7)]


@pytest.mark.parametrize(
    ("path", "code"),
    [("/readyz", 200), ("/livez", 200), ("/version", 200), ("/api/v1/pods", 401), ("/apis", 401), ("/", 401)],
)
async def test_strangers(http: aiohttp.ClientSession, path: str, code: int) -> None:
    async with http.get(path) as answer:
        assert answer.status == code
        if code == 401:
            found = await answer.json()
            assert (found["kind"], found["reason"], found["code"]) == ("Status", "Unauthorized", 401)


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason"),
    [
        ("POST", "/api/v1/namespaces/default/configmaps", b"{", 400, "BadRequest"),
        ("POST", "/api/v1/namespaces/default/configmaps", b"[]", 400, "BadRequest"),
        ("POST", "/api/v1/namespaces/default/configmaps", b'{"metadata": 1}', 400, "BadRequest"),
        ("POST", "/api/v1/namespaces/default/events", b" " * (3 * 2**20 + 1), 413, "RequestEntityTooLarge"),
        ("POST", "/api/v1/configmaps", b"{}", 405, "MethodNotAllowed"),
        ("PUT", "/api/v1/namespaces/default/configmaps/..%2fx", b"{}", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/gadgets", b"", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/pods?limit=x", b"", 400, "BadRequest"),
        ("GET", "/api/v1/pods?labelSelector=a%20b%20c", b"", 400, "BadRequest"),
        ("GET", "/api/v1/pods?continue=nonsense", b"", 400, "BadRequest"),
    ],
)
async def test_bad_requests(
    http: aiohttp.ClientSession, method: str, path: str, body: bytes, code: int, reason: str
) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
    async with http.request(method, path, data=io.BytesIO(body), headers=headers) as answer:
        found = await answer.json()
        assert (answer.status, found["reason"]) == (code, reason), found


async def test_protobuf_that_is_none(http: aiohttp.ClientSession) -> None:
    headers = {"Authorization": f"Bearer {NODE_TOKEN}", "Content-Type": "application/vnd.kubernetes.protobuf"}
    for body in (b"", b"k8s\x00", b"k8s\x00\x0a\xff", b"k8s\x00\x0a\x04\x0a\x02v1\x12\x01\xff"):
        async with http.post("/api/v1/namespaces/default/events", data=body, headers=headers) as answer:
            assert answer.status in (400, 415)


def test_certificates_last_and_names_can_be_added(mortal: ApiServer) -> None:
    authority, certificate = mortal.ca.read_bytes(), mortal.ca.with_name("server.crt").read_bytes()
    mortal.stop()
    mortal.start()
    assert mortal.ca.with_name("server.crt").read_bytes() == certificate
    mortal.stop()
    mortal.start("--san=api.example", "--san=192.0.2.1")
    assert mortal.ca.read_bytes() == authority
    assert mortal.ca.with_name("server.crt").read_bytes() != certificate
    modes = {path.name: path.stat().st_mode & 0o777 for path in mortal.ca.parent.glob("*.key")}
    assert set(modes.values()) == {0o600} and len(modes) == 4
    assert (mortal.folder / "state").stat().st_mode & 0o777 == 0o700
    assert mortal.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_an_address_in_use_is_one_line(server: ApiServer, tmp_path: Path) -> None:
    address = server.url.removeprefix("https://")
    command = [TULLE, "apiserver", f"--state-dir={tmp_path / 'other'}", f"--listen={address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"tulle: --listen {address}: Address already in use"]


class Kubelet:
    """Answers on a unix socket: logs, and an exec that sends back what it is sent."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.queries: list[dict[str, str]] = []

    async def __aenter__(self) -> Kubelet:
        app = web.Application()
        app.router.add_get("/containerLogs/{where:.*}", self._logs)
        app.router.add_get("/exec/{where:.*}", self._exec)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _logs(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        return web.Response(text=f"log of {request.match_info['where']}\n")

    async def _exec(self, request: web.Request) -> web.WebSocketResponse:
        self.queries.append(dict(request.query))
        channel = web.WebSocketResponse(protocols=["v5.channel.k8s.io", "v4.channel.k8s.io"])
        await channel.prepare(request)
        if "input" in request.query:
            heard = await channel.receive_bytes()
            await channel.send_bytes(b"\x01" + heard[1:])
        else:
            await channel.send_bytes(b"\x01hello\n")
        await channel.send_bytes(b'\x03{"metadata":{},"status":"Success"}')
        await channel.close()
        return channel


async def test_logs_and_exec_go_to_the_kubelet(server: ApiServer, client: Client, tmp_path: Path) -> None:
    node = {"metadata": {"name": "n", "annotations": {"tulle.dev/kubelet-socket": str(tmp_path / "k.sock")}}}
    await client.create(NODES, {"apiVersion": "v1", "kind": "Node", **node})
    containers = [{"name": name, "image": "x"} for name in ("a", "b")]
    spec = {"nodeName": "n", "containers": containers}
    await client.create(
        PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}, "default"
    )
    kubectl = Kubectl(server, tmp_path)

    async def run(*arguments: str, given: str | None = None, fails: bool = False) -> str:
        return await asyncio.to_thread(kubectl, *arguments, given=given, fails=fails)

    async with Kubelet(tmp_path / "k.sock") as kubelet:
        assert await run("logs", "p", "-c", "b", "--tail=3") == "log of default/p/b\n"
        assert kubelet.queries[-1] == {"tailLines": "3"}
        assert await run("exec", "p", "-c", "a", "--", "echo", "hello") == "hello\n"
        assert kubelet.queries[-1] == {"command": "echo", "output": "1", "error": "1"}
        assert await run("exec", "-i", "p", "-c", "a", "--", "cat", given="echoed") == "echoed"
        done = await client.exec("default", "p", ["cat"], container="a")
        assert (done.stdout, done.exit_code) == (b"hello\n", 0)
        path = "/api/v1/namespaces/default/pods/p/log"
        assert "a container name must be specified for pod p" in await run("get", "--raw", path, fails=True)
        assert "container z is not valid for pod p" in await run("logs", "p", "-c", "z", fails=True)
    said = await run("logs", "p", "-c", "a", fails=True)
    assert "kubelet of node n" in said
