"""The client against a real TLS server: credentials, errors, paging, watches, exec."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import WSMsgType, web
from cryptography import x509
from tls_server import ApiServer, Serve

from tulle.errors import ApiUnreachable, ConfigError, Conflict, Forbidden, Gone, NotFound
from tulle.kube.client import Client
from tulle.kube.config import ClusterConfig, load_kubeconfig
from tulle.kube.credentials import ExecConfig, ExecPlugin
from tulle.kube.resources import NODE, NODES, PODS
from tulle.kube.tls import Identity, Pem

NODE_OBJECT = {"metadata": {"name": "n1", "resourceVersion": "5"}, "spec": {"podCIDRs": ["10.1.0.0/24"]}}


def status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code)


async def whoami(request: web.Request) -> web.Response:
    """A Node whose name is what the request proved itself with."""
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    subject = certificate["subject"][0][0][1] if certificate else "no certificate"
    name = request.headers.get("Authorization", subject)
    return web.json_response({"metadata": {"name": name}})


async def name_of(client: Client) -> str:
    return (await client.get(NODE, "me")).metadata.name


def config(server: ApiServer, **fields: Any) -> ClusterConfig:
    return ClusterConfig(server.url, **({"ca": Pem("ca", path=server.ca_file)} | fields))


async def test_token(serve: Serve) -> None:
    async with Client(config(await serve(whoami), token="t1")) as client:
        assert await name_of(client) == "Bearer t1"


async def test_a_token_file_is_read_again_when_it_is_swapped(serve: Serve, tmp_path: Path) -> None:
    link = tmp_path / "token"
    for name in ("t1", "t2"):
        (tmp_path / name).write_text(f"{name}\n")
    link.symlink_to("t1")
    async with Client(config(await serve(whoami), token_file=link)) as client:
        assert await name_of(client) == "Bearer t1"
        (tmp_path / "new").symlink_to("t2")
        (tmp_path / "new").rename(link)
        assert await name_of(client) == "Bearer t2"
        link.unlink()
        assert await name_of(client) == "Bearer t2"


async def test_client_certificate(serve: Serve) -> None:
    server = await serve(whoami)
    certificate, key = server.authority.issue("admin", [])
    identity = Identity(Pem("cert", certificate), Pem("key", key))
    async with Client(config(server, identity=identity)) as client:
        assert await name_of(client) == "admin"


async def test_a_client_certificate_that_is_no_pair(serve: Serve) -> None:
    server = await serve(whoami)
    certificate, _ = server.authority.issue("a", [])
    _, key = server.authority.issue("b", [])
    async with Client(config(server, identity=Identity(Pem("C", certificate), Pem("K", key)))) as client:
        with pytest.raises(ConfigError, match="C: the certificate and K do not make a pair"):
            await name_of(client)


async def test_a_rotated_client_certificate_is_used(serve: Serve, tmp_path: Path) -> None:
    server = await serve(whoami)
    pem = tmp_path / "client.pem"
    pem.write_bytes(b"".join(server.authority.issue("before", [])))
    async with Client(config(server, identity=Identity(Pem("c", path=pem), Pem("k", path=pem)))) as client:
        assert await name_of(client) == "before"
        pem.write_bytes(b"half-written")
        assert await name_of(client) == "before"
        pem.write_bytes(b"".join(server.authority.issue("after", [])))
        assert await name_of(client) == "after"


async def test_a_server_that_another_authority_vouches_for(serve: Serve) -> None:
    server = await serve(whoami)
    async with Client(config(server, ca=None)) as client:
        with pytest.raises(ApiUnreachable, match="certificate verify failed"):
            await name_of(client)
    async with Client(config(server, ca=None, token="t", insecure_skip_tls_verify=True)) as client:
        assert await name_of(client) == "Bearer t"


async def test_tls_server_name(serve: Serve) -> None:
    server = await serve(whoami, names=[x509.DNSName("kubernetes.default")])
    async with Client(config(server)) as client:
        with pytest.raises(ApiUnreachable, match="certificate is not valid for"):
            await name_of(client)
    async with Client(config(server, token="t", tls_server_name="kubernetes.default")) as client:
        assert await name_of(client) == "Bearer t"


def plugin(folder: Path, script: str) -> Path:
    path = folder / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def exec_kubeconfig(folder: Path, server: ApiServer, version: str, command: str) -> Path:
    content = {
        "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": server.url, "certificate-authority": "ca.pem"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "users": [
            {
                "name": "u",
                "user": {
                    "exec": {
                        "apiVersion": f"client.authentication.k8s.io/{version}",
                        "command": command,
                        "args": ["from-args"],
                        "env": [{"name": "EXTRA", "value": "from-env"}],
                        "provideClusterInfo": True,
                        "interactiveMode": "Never",
                    }
                },
            }
        ],
    }
    path = folder / "config"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_exec_plugin(serve: Serve, tmp_path: Path, version: str) -> None:
    server = await serve(whoami)
    plugin(
        tmp_path,
        f"""
        echo "$KUBERNETES_EXEC_INFO" > {tmp_path}/info; echo run >> {tmp_path}/runs
        echo '{{"apiVersion":"client.authentication.k8s.io/{version}","kind":"ExecCredential",
               "status":{{"token":"'$1-$EXTRA'"}}}}'""",
    )
    async with Client(load_kubeconfig(exec_kubeconfig(tmp_path, server, version, "./plugin"))) as client:
        assert await name_of(client) == "Bearer from-args-from-env"
        await name_of(client)
    assert (tmp_path / "runs").read_text() == "run\n"
    told = json.loads((tmp_path / "info").read_text())
    assert told["apiVersion"].endswith(version)
    assert told["spec"]["cluster"]["server"] == server.url
    assert base64.b64decode(told["spec"]["cluster"]["certificate-authority-data"]) == (
        server.authority.certificate
    )


def issuing(folder: Path, expiry: str) -> ExecConfig:
    version = "client.authentication.k8s.io/v1"
    answer = {
        "apiVersion": version,
        "kind": "ExecCredential",
        "status": {"token": "TOKEN", "expirationTimestamp": expiry},
    }
    body = json.dumps(answer).replace("TOKEN", "'$(wc -l <runs)'")
    return ExecConfig(version, str(plugin(folder, f"cd {folder}; echo run >> runs; echo '{body}'")))


async def test_an_issued_token_is_renewed_before_it_expires(tmp_path: Path) -> None:
    now = [0.0]
    source = ExecPlugin(issuing(tmp_path, "1970-01-01T01:00:00Z"), {}, wall_clock=lambda: now[0])
    tokens = []
    for moment in (0.0, 3569.0, 3571.0):
        now[0] = moment
        tokens.append((await source.current()).token)
    assert tokens == ["1", "1", "2"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "ended with exit code 3"),
        ("echo nonsense", "printed no ExecCredential"),
        ('echo \'{"apiVersion":"v1","kind":"Pod"}\'', "printed a v1 Pod"),
    ],
)
async def test_a_failing_plugin_says_how(tmp_path: Path, script: str, message: str) -> None:
    source = ExecPlugin(ExecConfig("client.authentication.k8s.io/v1", str(plugin(tmp_path, script))), {})
    with pytest.raises(ApiUnreachable, match=message):
        await source.current()


async def test_a_missing_plugin_gives_its_install_hint() -> None:
    missing = ExecConfig("client.authentication.k8s.io/v1", "no-such-plugin", install_hint="get it from X")
    with pytest.raises(ConfigError, match="no-such-plugin: No such file or directory; get it from X"):
        await ExecPlugin(missing, {}).current()


async def test_a_401_has_the_plugin_run_again(serve: Serve, tmp_path: Path) -> None:
    async def only_the_second(request: web.Request) -> web.Response:
        ok = request.headers["Authorization"] == "Bearer 2"
        return web.json_response(NODE_OBJECT) if ok else status(401, "Unauthorized", "who?")

    server = await serve(only_the_second)
    async with Client(config(server, exec_plugin=issuing(tmp_path, "2999-01-01T00:00:00Z"))) as client:
        with pytest.raises(Forbidden):
            await name_of(client)
        assert await name_of(client) == "n1"


async def test_a_list_is_fetched_in_pages(serve: Serve) -> None:
    async def pages(request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == "a=b"
        start = int(request.query.get("continue", 0))
        items = [{"metadata": {"name": f"p{start + i}"}} for i in range(int(request.query["limit"]))]
        more = {"continue": str(start + 2)} if start < 4 else {}
        return web.json_response({"metadata": {"resourceVersion": "9", **more}, "items": items})

    async with Client(config(await serve(pages))) as client:
        result = await client.list(PODS, label_selector="a=b", limit=2)
    assert [pod["metadata"]["name"] for pod in result.items] == [f"p{i}" for i in range(6)]
    assert result.resource_version == "9"


async def test_an_expired_page_starts_the_list_again_in_one_piece(serve: Serve) -> None:
    asked = []

    async def expiring(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        if "continue" in request.query:
            return status(410, "Expired", "too late")
        more = {"continue": "x"} if "limit" in request.query else {}
        items = [{"metadata": {"name": "one"}}]
        return web.json_response({"metadata": {"resourceVersion": "9", **more}, "items": items})

    async with Client(config(await serve(expiring))) as client:
        result = await client.list(PODS, limit=1)
    assert [pod["metadata"]["name"] for pod in result.items] == ["one"]
    assert asked == [{"limit": "1"}, {"limit": "1", "continue": "x"}, {}]


async def test_one_bad_object_leaves_the_others(serve: Serve) -> None:
    async def mixed(request: web.Request) -> web.Response:
        bad = {"metadata": {"name": "bad"}, "spec": 7}
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": [bad, NODE_OBJECT]})

    async with Client(config(await serve(mixed))) as client:
        result = await client.list(NODE)
    assert [node.metadata.name for node in result.items] == ["n1"]
    assert [entry.key for entry in result.entries] == [("", "bad"), ("", "n1")]


async def test_verbs_and_paths(serve: Serve) -> None:
    seen = []

    async def record(request: web.Request) -> web.Response:
        content = request.headers.get("Content-Type", "")
        seen.append((request.method, request.path, dict(request.query), content, await request.read()))
        return web.json_response({"metadata": {"name": "p"}})

    pod = {"metadata": {"name": "p"}}
    async with Client(config(await serve(record))) as client:
        await client.create(PODS, pod, "ns")
        await client.replace(PODS, "p", pod, "ns", subresource="status")
        await client.patch(PODS, "p", {"a": 1}, "ns", kind="apply")
        await client.delete(PODS, "p", "ns", grace_period_seconds=0, propagation="Foreground")
        await client.patch(NODES, "n", [], subresource="status", kind="json")
    body = msgspec.json.encode(pod)
    assert seen[0] == ("POST", "/api/v1/namespaces/ns/pods", {}, "application/json", body)
    assert seen[1] == ("PUT", "/api/v1/namespaces/ns/pods/p/status", {}, "application/json", body)
    query = {"fieldManager": "tulle", "force": "true"}
    assert seen[2][1:4] == ("/api/v1/namespaces/ns/pods/p", query, "application/apply-patch+yaml")
    assert json.loads(seen[3][4])["gracePeriodSeconds"] == 0
    assert json.loads(seen[3][4])["propagationPolicy"] == "Foreground"
    assert seen[4][:2] == ("PATCH", "/api/v1/nodes/n/status")


async def test_errors_of_the_api_are_raised(serve: Serve) -> None:
    async def conflict(request: web.Request) -> web.Response:
        return status(409, "AlreadyExists", 'pods "p" already exists')

    async with Client(config(await serve(conflict))) as client:
        with pytest.raises(Conflict, match="already exists") as raised:
            await client.create(PODS, {}, "ns")
    assert raised.value.reason == "AlreadyExists"


async def test_no_server_at_all(closed_port: int) -> None:
    async with Client(ClusterConfig(f"http://127.0.0.1:{closed_port}")) as client:
        with pytest.raises(ApiUnreachable, match=f"http://127.0.0.1:{closed_port}/api/v1/nodes"):
            await client.list(NODES)


async def test_a_watch_asks_for_bookmarks_and_raises_an_expired_version(serve: Serve) -> None:
    async def events(request: web.Request) -> web.StreamResponse:
        assert request.query["allowWatchBookmarks"] == request.query["watch"] == "true"
        assert (request.query["resourceVersion"], request.query["timeoutSeconds"]) == ("4", "90")
        response = web.StreamResponse()
        await response.prepare(request)
        large = NODE_OBJECT | {"padding": "x" * 200_000}
        for event in (
            {"type": "ADDED", "object": large},
            {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "8"}}},
            {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "expired"}},
        ):
            await response.write(msgspec.json.encode(event) + b"\n")
        return response

    received = []
    async with Client(config(await serve(events))) as client:
        with pytest.raises(Gone, match="expired"):
            async for event in client.watch(NODE, "4", timeout_seconds=90):
                received.append((event.type, event.item.version))
    assert received == [("ADDED", "5"), ("BOOKMARK", "8")]


async def test_a_broken_watch_is_an_unreachable_api(serve: Serve) -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        assert request.transport
        request.transport.abort()
        return response

    async with Client(config(await serve(breaks))) as client:
        with pytest.raises(ApiUnreachable):
            async for _ in client.watch(NODE, "4"):
                pass


def exec_server(protocol: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Echoes standard input, twice on standard error, and ends with exit code 4."""

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.query.getall("command") == ["cat", "-n"]
        channel = web.WebSocketResponse(protocols=[protocol])
        await channel.prepare(request)
        async for message in channel:
            assert message.type is WSMsgType.BINARY
            if message.data[:1] == b"\x00":
                await channel.send_bytes(b"\x01" + message.data[1:])
                await channel.send_bytes(b"\x02" + message.data[1:] * 2)
            if message.data == b"\xff\x00" or protocol.startswith("v4"):
                break
        cause = {"reason": "ExitCode", "message": "4"}
        end = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}
        await channel.send_bytes(b"\x03" + msgspec.json.encode(end))
        await channel.close()
        return channel

    return handle


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
async def test_exec(serve: Serve, protocol: str) -> None:
    async with Client(config(await serve(exec_server(protocol)))) as client:
        result = await client.exec("ns", "p", ["cat", "-n"], container="c", stdin=b"ab")
    assert (result.stdout, result.stderr, result.exit_code) == (b"ab", b"abab", 4)


async def test_exec_in_a_pod_that_is_not_there(serve: Serve) -> None:
    async def missing(request: web.Request) -> web.Response:
        return status(404, "NotFound", "no")

    async with Client(config(await serve(missing))) as client:
        with pytest.raises(NotFound):
            await client.exec("ns", "p", ["true"])
