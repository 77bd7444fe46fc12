"""pods/log, exec and attach (WebSocket and SPDY), passed on to the kubelet of the Pod's node.

A kubelet is reached at its node's InternalIP with TLS of the cluster's CA; or, when the Node is annotated
with ``tulle.dev/kubelet-socket``, through that unix socket, whose file mode is its protection.
"""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
from aiohttp import web

from tulle.apiserver import spdy_session, status
from tulle.apiserver.kinds import Object
from tulle.apiserver.requests import Target
from tulle.apiserver.store import Store

SOCKET = "tulle.dev/kubelet-socket"
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
CONNECT = aiohttp.ClientTimeout(total=None, connect=10)
RENAMED = {"stdin": "input", "stdout": "output", "stderr": "error"}

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class Kubelets:
    """Talks to kubelets with the TLS ``context``."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    async def serve(self, request: web.BaseRequest, store: Store, asked: Target) -> web.StreamResponse:
        """Answers with what the kubelet answers."""
        pod = store.get("/pods", asked.namespace, asked.name)
        if pod is None:
            details = {"name": asked.name, "kind": "pods"}
            raise status.StatusError(404, f'pods "{asked.name}" not found', details)
        if asked.part == "portforward":
            raise status.StatusError(501, "port forwarding is not served; use kubectl exec, or a Service")
        container = _container(pod.obj, request.query.get("container", ""))
        base, connector = self._kubelet(store, pod.obj)
        where = f"{asked.namespace}/{asked.name}/{container}"
        try:
            async with aiohttp.ClientSession(connector=connector, timeout=CONNECT) as session:
                if asked.part == "log":
                    return await _logs(request, session, f"{base}/containerLogs/{where}")
                return await _channel(request, session, f"{base}/{asked.part}/{where}")
        except aiohttp.ClientConnectionError as error:
            node = pod.obj["spec"]["nodeName"]
            raise status.StatusError(
                500, f"Internal error occurred: kubelet of node {node}: {error}"
            ) from error

    def _kubelet(self, store: Store, pod: Object) -> tuple[str, aiohttp.BaseConnector]:
        """The kubelet's base address, and what connects to it."""
        name = pod["spec"].get("nodeName", "")
        node = store.get("/nodes", "", name)
        if node is None:
            raise status.bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
        if path := node.obj["metadata"].get("annotations", {}).get(SOCKET):
            return "http://kubelet", aiohttp.UnixConnector(path)
        found = node.obj.get("status", {})
        port = found.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port", 10250)
        for address in found.get("addresses", ()):
            if address["type"] == "InternalIP":
                host = f"[{address['address']}]" if ":" in address["address"] else address["address"]
                return f"https://{host}:{port}", aiohttp.TCPConnector(ssl=self._context)
        raise status.StatusError(500, f"Internal error occurred: node {name} has no InternalIP")


def _container(pod: Object, wanted: str) -> str:
    """The container that is meant: the one asked for, the annotated default, or the only one."""
    spec, meta = pod["spec"], pod["metadata"]
    groups = ("initContainers", "containers", "ephemeralContainers")
    names = [each["name"] for group in groups for each in spec.get(group, ())]
    wanted = wanted or meta.get("annotations", {}).get("kubectl.kubernetes.io/default-container", "")
    if wanted and wanted not in names:
        raise status.bad_request(f"container {wanted} is not valid for pod {meta['name']}")
    if not wanted and len(spec["containers"]) > 1:
        choices = " ".join(each["name"] for each in spec["containers"])
        why = f"a container name must be specified for pod {meta['name']}, choose one of: [{choices}]"
        raise status.bad_request(why)
    return wanted or str(spec["containers"][0]["name"])


async def _logs(request: web.BaseRequest, session: aiohttp.ClientSession, url: str) -> web.StreamResponse:
    query = [(key, value) for key, value in request.query.items() if key != "container"]
    async with session.get(url, params=query) as answer:
        if answer.status != 200:
            raise _refused(answer.status, (await answer.text()).strip())
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def _channel(request: web.BaseRequest, session: aiohttp.ClientSession, url: str) -> web.StreamResponse:
    """Exec or attach: a WebSocket's frames go both ways as they come, SPDY's are translated."""
    over_spdy = spdy_session.is_asked_for(request)
    if not over_spdy and not web.WebSocketResponse().can_prepare(request):
        raise status.bad_request("exec and attach need an upgrade of the connection: WebSocket or SPDY/3.1")
    query = [_translated(*pair) for pair in request.query.items() if pair[0] != "container"]
    offered = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    protocols = [each for each in PROTOCOLS if over_spdy or each in offered]
    try:
        upstream = await session.ws_connect(url, params=query, protocols=protocols, max_msg_size=0)
    except aiohttp.WSServerHandshakeError as error:
        raise _refused(error.status, f"the kubelet refused: {error.message}") from error
    async with upstream:
        return await (spdy_session.relay if over_spdy else _relay)(request, upstream)


async def _relay(
    request: web.BaseRequest, upstream: aiohttp.ClientWebSocketResponse
) -> web.WebSocketResponse:
    chosen = [upstream.protocol] if upstream.protocol else []
    downstream = web.WebSocketResponse(protocols=chosen, max_msg_size=0)
    await downstream.prepare(request)
    async with asyncio.TaskGroup() as group:
        back = group.create_task(_pump(upstream, downstream), name="from-kubelet")
        there = group.create_task(_pump(downstream, upstream), name="to-kubelet")
        await asyncio.wait((back, there), return_when=asyncio.FIRST_COMPLETED)
        back.cancel()
        there.cancel()
    await downstream.close()
    return downstream


def _translated(key: str, value: str) -> tuple[str, str]:
    """A parameter of ours in the words of a kubelet, for which true is 1."""
    on = {"true": "1", "false": "0"} if key in RENAMED or key == "tty" else {}
    return RENAMED.get(key, key), on.get(value, value)


async def _pump(source: Socket, sink: Socket) -> None:
    """Passes on frames until ``source`` is closed."""
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)


def _refused(code: int, message: str) -> status.StatusError:
    return status.StatusError(code if code in status.REASONS else 500, message)
