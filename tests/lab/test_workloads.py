"""The API server and its controllers under kubectl: Deployments, DaemonSets, owners, namespaces.

There are no nodes here: a stand-in node agent reports each Pod that is bound as running, unless its image is
``broken``, and removes each that is to go.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tulle.errors import ApiUnreachable
from tulle.kube.client import Client
from tulle.kube.config import load_kubeconfig
from tulle.kube.informer import Informer
from tulle.kube.queue import Queue
from tulle.kube.resources import LEASES, NODES, PODS, Key

pytestmark = pytest.mark.asyncio(loop_scope="module")

Object = dict[str, Any]

NODE_NAMES = ("node-a", "node-b", "node-c")
HEARTBEAT_SECONDS = 10.0
STARTED = "2026-01-01T00:00:00Z"


class NodeAgent:
    """Says of every Pod what a kubelet would say of one that starts and stops at once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pods = Informer(client, PODS)
        self._queue: Queue[Key] = Queue("node-agent")
        self._pods.subscribe(lambda change: self._queue.add(change.key))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pods.run(), name="node-agent-pods")
            group.create_task(self._queue.run(self._report), name="node-agent-reports")
            group.create_task(self._beat(), name="node-agent-heartbeat")

    async def _beat(self) -> None:
        """Nodes that are not heard of for 40 seconds count as lost."""
        while True:
            for name in NODE_NAMES:
                with suppress(ApiUnreachable):  # while the server is being killed
                    await self._client.patch(LEASES, name, lease(name), "kube-node-lease", kind="apply")
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _report(self, key: Key) -> None:
        pod = self._pods.objects.get(key)
        if pod is None or not pod["spec"].get("nodeName"):
            return
        namespace, name = key
        if pod["metadata"].get("deletionTimestamp"):
            await self._client.delete(PODS, name, namespace, grace_period_seconds=0)
        elif pod["status"]["phase"] == "Pending" and pod["spec"]["containers"][0]["image"] != "broken":
            await self._client.patch(
                PODS, name, {"status": running(pod)}, namespace, "status", kind="strategic"
            )


def lease(node: str) -> Object:
    renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": node, "renewTime": renewed}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": node}, "spec": spec}


def running(pod: Object) -> Object:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": STARTED}
    state = {"running": {"startedAt": STARTED}}
    common = {"state": state, "ready": True, "started": True, "restartCount": 0}
    statuses = [
        {"name": each["name"], "image": each["image"], **common} for each in pod["spec"]["containers"]
    ]
    return {"phase": "Running", "conditions": [ready], "containerStatuses": statuses}


class Server:
    """``tulle apiserver`` as a process, on a socket that stays the same when it is started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kubeconfig = folder, folder / "kubeconfig"
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns once it is ready."""
        command = ["apiserver", "--state-dir", str(self.folder / "state")]
        inherited = self._socket.fileno()
        command += ["--listen-fd", str(inherited), "--kubeconfig-out", str(self.kubeconfig)]
        tulle = Path(sys.executable).with_name("tulle")
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                tulle, *command, stdout=log, stderr=log, pass_fds=[inherited]
            )
        async with asyncio.timeout(90):
            while not await self._is_ready():
                assert self.process.returncode is None, (self.folder / "log").read_text()

    async def _is_ready(self) -> bool:
        code, _, _ = await self._kubectl("get", "--raw", "/readyz")
        return code == 0

    async def kill(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def close(self) -> None:
        await self.kill()
        self._socket.close()

    async def kubectl(self, *arguments: str, given: Object | None = None, fails: bool = False) -> str:
        """What kubectl prints; ``given`` is its standard input."""
        code, output, errors = await self._kubectl(*arguments, given=given)
        assert bool(code) is fails, f"kubectl {' '.join(arguments)}: {output}{errors}"
        return errors if fails else output

    async def rolled_out(self, *arguments: str, fails: bool = False) -> str:
        return await self.kubectl("rollout", "status", "--timeout=90s", *arguments, fails=fails)

    async def _kubectl(self, *arguments: str, given: Object | None = None) -> tuple[int, str, str]:
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.folder / "cache"),
        }
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "kubectl",
            "--request-timeout=30s",
            *arguments,
            env=environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        output, errors = await process.communicate(json.dumps(given).encode() if given else b"")
        return process.returncode or 0, output.decode(), errors.decode()

    async def items(self, *arguments: str) -> list[Object]:
        found: list[Object] = json.loads(await self.kubectl("get", *arguments, "-o", "json"))["items"]
        return found


@asynccontextmanager
async def task_of(agent: NodeAgent) -> AsyncIterator[None]:
    task = asyncio.create_task(agent.run(), name="node-agent")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    started = Server(tmp_path_factory.mktemp("apiserver"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(started.close)
        await started.start()
        client = await stack.enter_async_context(Client(load_kubeconfig(started.kubeconfig)))
        for name in NODE_NAMES:
            await client.create(NODES, node(name))
        await stack.enter_async_context(task_of(NodeAgent(client)))
        yield started


def node(name: str) -> Object:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": STARTED}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": {"conditions": [ready]}}


def workload(kind: str, name: str, **spec: Any) -> Object:
    labels = {"app": name}
    pod = {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "one"}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    whole = {"selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": whole}


async def test_a_deployment_starts_and_is_spread(server: Server) -> None:
    await server.kubectl("create", "deployment", "web", "--image=one", "--replicas=6")
    assert "successfully rolled out" in await server.rolled_out("deployment/web")
    pods = await server.items("pods", "-l", "app=web")
    assert Counter(pod["spec"]["nodeName"] for pod in pods) == dict.fromkeys(NODE_NAMES, 2)
    table = (await server.kubectl("get", "pods,deployments", "-l", "app=web")).splitlines()
    assert table[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert table[1].split()[1:4] == ["1/1", "Running", "0"]
    assert table[-1].split()[1:4] == ["6/6", "6", "6"]
    events = await server.kubectl("get", "events", "--field-selector", "reason=Scheduled", "-o", "name")
    assert len(events.splitlines()) >= 6
    assert "NewReplicaSetAvailable" in await server.kubectl("describe", "deployment", "web")


async def test_every_namespace_has_its_service_account_and_ca(server: Server) -> None:
    await server.kubectl("create", "namespace", "furnished")
    wait = ("--for=create", "-n", "furnished", "--timeout=90s")
    await server.kubectl("wait", "serviceaccount/default", *wait)
    await server.kubectl("wait", "configmap/kube-root-ca.crt", *wait)
    await server.kubectl("delete", "configmap", "kube-root-ca.crt", "-n", "furnished")
    await server.kubectl("wait", "configmap/kube-root-ca.crt", *wait)
    found = await server.kubectl("get", "cm", "kube-root-ca.crt", "-n", "furnished", "-o", "jsonpath={.data}")
    assert "BEGIN CERTIFICATE" in found


async def test_scaling(server: Server) -> None:
    await server.kubectl("scale", "deployment/web", "--replicas=8")
    await server.rolled_out("deployment/web")
    await server.kubectl("scale", "deployment/web", "--replicas=3")
    await server.kubectl("wait", "deployment/web", "--for=jsonpath={.status.replicas}=3", "--timeout=90s")
    pods = await server.items("pods", "-l", "app=web")
    assert len([pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]) == 3


async def test_rollout_history_and_undo(server: Server) -> None:
    await server.kubectl("set", "image", "deployment/web", "*=two")
    await server.rolled_out("deployment/web")
    await server.kubectl("rollout", "restart", "deployment/web")
    await server.rolled_out("deployment/web")
    await server.kubectl("rollout", "undo", "deployment/web", "--to-revision=1")
    await server.rolled_out("deployment/web")
    history = (await server.kubectl("rollout", "history", "deployment/web")).split()
    assert [word for word in history if word.isdigit()] == ["2", "3", "4"]
    pods = await server.items("pods", "-l", "app=web", "--field-selector", "status.phase=Running")
    images = {p["spec"]["containers"][0]["image"] for p in pods if "deletionTimestamp" not in p["metadata"]}
    assert images == {"one"}


async def test_a_rollout_that_fails_says_so_and_keeps_serving(server: Server) -> None:
    slow = workload("Deployment", "slow", replicas=2)
    slow["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    await server.kubectl("apply", "-f", "-", given=slow)
    await server.rolled_out("deployment/slow")
    await server.kubectl("patch", "deployment", "slow", "-p", '{"spec": {"progressDeadlineSeconds": 2}}')
    await server.kubectl("set", "image", "deployment/slow", "c=broken")
    refusal = await server.rolled_out("deployment/slow", fails=True)
    assert "exceeded its progress deadline" in refusal
    available = await server.kubectl(
        "get", "deployment", "slow", "-o", "jsonpath={.status.availableReplicas}"
    )
    assert available == "2"
    await server.kubectl("patch", "deployment", "slow", "-p", '{"spec": {"progressDeadlineSeconds": 600}}')
    await server.kubectl("rollout", "undo", "deployment/slow")
    await server.rolled_out("deployment/slow")


async def test_deleting_takes_dependents_along_or_leaves_them(server: Server) -> None:
    await server.kubectl("delete", "deployment", "slow")
    await server.kubectl("wait", "pods", "-l", "app=slow", "--for=delete", "--timeout=90s")
    assert await server.items("replicasets,pods", "-l", "app=slow") == []

    await server.kubectl("delete", "deployment", "web", "--cascade=orphan")
    left = await server.items("replicasets", "-l", "app=web")
    assert len(left) == 3
    assert not any(rs["metadata"].get("ownerReferences") for rs in left)

    adopter = workload("Deployment", "web", replicas=3)
    await server.kubectl("apply", "-f", "-", given=adopter)
    await server.rolled_out("deployment/web")
    await server.kubectl("delete", "deployment", "web", "--cascade=foreground")
    assert await server.items("replicasets,pods", "-l", "app=web") == []


async def test_daemonsets(server: Server) -> None:
    await server.kubectl("apply", "-f", "-", given=workload("DaemonSet", "agent"))
    await server.rolled_out("daemonset/agent")
    pods = await server.items("pods", "-l", "app=agent")
    assert sorted(pod["spec"]["nodeName"] for pod in pods) == list(NODE_NAMES)

    await server.kubectl("create", "-f", "-", given=node("node-d"))
    await server.kubectl("wait", "ds/agent", "--for=jsonpath={.status.numberReady}=4", "--timeout=90s")
    await server.kubectl("set", "image", "daemonset/agent", "c=two")
    await server.rolled_out("daemonset/agent")
    row = (await server.kubectl("get", "daemonset", "agent")).splitlines()[1].split()
    assert row[1:6] == ["4"] * 5
    await server.kubectl("delete", "daemonset", "agent", "--cascade=foreground")
    await server.kubectl("delete", "node", "node-d")


async def test_a_pod_that_fits_nowhere_waits_and_says_why(server: Server) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "picky"},
        "spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c", "image": "one"}]},
    }
    await server.kubectl("apply", "-f", "-", given=pod)
    await server.kubectl("wait", "pod/picky", "--for=condition=PodScheduled=False", "--timeout=90s")
    message = "jsonpath={.status.conditions[0].message}"
    said = await server.kubectl("get", "pod", "picky", "-o", message)
    assert said == "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
    await server.kubectl("label", "node", "node-b", "disk=ssd")
    await server.kubectl("wait", "pod/picky", "--for=condition=Ready", "--timeout=90s")
    assert "node-b" in await server.kubectl("get", "pod", "picky", "-o", "wide")
    assert "FailedScheduling" in await server.kubectl("describe", "pod", "picky")


async def test_custom_resources_own_objects(server: Server) -> None:
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    await server.kubectl("apply", "-f", "-", given=definition)
    await server.kubectl("wait", "crd/widgets.example.com", "--for=condition=Established", "--timeout=90s")
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "owner"}}
    await server.kubectl("apply", "-f", "-", given=widget)
    assert (await server.kubectl("get", "widgets")).split()[:3] == ["NAME", "AGE", "owner"]
    uid = await server.kubectl("get", "widget", "owner", "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "owner", "uid": uid}
    metadata = {"name": "owned", "ownerReferences": [owner]}
    await server.kubectl(
        "apply", "-f", "-", given={"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    )
    await server.kubectl("delete", "widget", "owner")
    await server.kubectl("wait", "configmap/owned", "--for=delete", "--timeout=90s")


async def test_a_namespace_is_emptied_before_it_goes(server: Server) -> None:
    await server.kubectl("create", "namespace", "doomed")
    await server.kubectl("apply", "-n", "doomed", "-f", "-", given=workload("Deployment", "web", replicas=3))
    await server.rolled_out("deployment/web", "-n", "doomed")
    held = {"name": "held", "finalizers": ["example.com/hold"]}
    given = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": held}
    await server.kubectl("apply", "-n", "doomed", "-f", "-", given=given)
    await server.kubectl("delete", "namespace", "doomed", "--wait=false")
    await server.kubectl("wait", "pods", "--all", "-n", "doomed", "--for=delete", "--timeout=90s")
    assert "Terminating" in await server.kubectl("get", "namespace", "doomed")
    release = '{"metadata":{"finalizers":null}}'
    await server.kubectl("patch", "configmap", "held", "-n", "doomed", "--type=merge", "-p", release)
    await server.kubectl("wait", "namespace/doomed", "--for=delete", "--timeout=90s")


async def test_controllers_go_on_after_kill_9(server: Server) -> None:
    await server.kubectl("apply", "-f", "-", given=workload("Deployment", "durable", replicas=3))
    await server.rolled_out("deployment/durable")
    before = {pod["metadata"]["uid"] for pod in await server.items("pods", "-l", "app=durable")}
    await server.kill()
    await server.start()
    await server.kubectl("scale", "deployment/durable", "--replicas=5")
    await server.rolled_out("deployment/durable")
    after = {pod["metadata"]["uid"] for pod in await server.items("pods", "-l", "app=durable")}
    assert before < after
    assert len(after) == 5
