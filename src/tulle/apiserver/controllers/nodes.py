"""Nodes: those that fall silent are marked, and Pods of those that no longer exist are removed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from tulle.apiserver.controllers.objects import Object, condition, is_finished, key_of, stamp
from tulle.apiserver.controllers.placement import NOT_READY, UNREACHABLE
from tulle.apiserver.controllers.work import Mirror, synced
from tulle.errors import NotFound
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.queue import Queue
from tulle.kube.resources import LEASES, NODES, PODS, Key

GRACE_SECONDS = 40.0
"""Kubernetes' default: how long a node may be silent, and how long Pods outlive the object of their node."""

LEASE_NAMESPACE = "kube-node-lease"
_SILENT = {
    "status": "Unknown",
    "reason": "NodeStatusUnknown",
    "message": "Kubelet stopped posting node status.",
}


def conditions_of_silent(node: Object, now: datetime) -> list[Object]:
    """The conditions of a node of which nothing is known any more."""
    found = node.get("status", {}).get("conditions") or [{"type": "Ready"}]
    return [
        each if each.get("status") == "Unknown" else {**each, **_SILENT, "lastTransitionTime": stamp(now)}
        for each in found
    ]


def taints_of(node: Object, ready: str | None) -> list[Object]:
    """A node's taints, with those that follow from its Ready condition; a new node keeps what it came with.

    There are none with the effect NoExecute: nothing here evicts Pods from a node that may come back.
    """
    taints = list(node.get("spec", {}).get("taints") or [])
    if ready is None:
        return taints
    wanted = {"True": None, "False": NOT_READY}.get(ready, UNREACHABLE)
    ours = {(key, "NoSchedule") for key in (NOT_READY, UNREACHABLE)}
    kept = [t for t in taints if (t["key"], t["effect"]) not in ours or t["key"] == wanted]
    if wanted is not None and not any(t["key"] == wanted and t["effect"] == "NoSchedule" for t in kept):
        kept.append({"key": wanted, "effect": "NoSchedule"})
    return kept


class Nodes:
    """Looks at a node when it changes, and when it has been silent for too long by our own clock."""

    def __init__(self, client: Client, nodes: Mirror) -> None:
        self._client, self._nodes = client, nodes
        self._queue: Queue[str] = Queue("node")
        self._heard: dict[str, float] = {}
        self.leases = Informer(client, LEASES, namespace=LEASE_NAMESPACE)
        self.leases.subscribe(self._lease_changed)
        nodes.informer.subscribe(self._node_changed)

    def _lease_changed(self, change: Change[Object]) -> None:
        if change.new is not None:
            self._hear(change.key[1])

    def _node_changed(self, change: Change[Object]) -> None:
        name = change.key[1]
        beats = [
            (condition(node, "Ready") or {}).get("lastHeartbeatTime")
            for node in (change.old, change.new)
            if node
        ]
        if change.new is None:
            self._heard.pop(name, None)
        elif beats[0] != beats[-1] or change.old is None:
            self._hear(name)
        self._queue.add(name)

    def _hear(self, name: str) -> None:
        self._heard[name] = asyncio.get_running_loop().time()
        self._queue.add_after(name, GRACE_SECONDS)

    async def run(self) -> None:
        """Never returns."""
        await synced(self._nodes)
        await self._queue.run(self._look_at)

    async def _look_at(self, name: str) -> None:
        node = self._nodes.get(("", name))
        if node is None:
            return
        ready = (condition(node, "Ready") or {}).get("status")
        now = asyncio.get_running_loop().time()
        if now - self._heard.setdefault(name, now) >= GRACE_SECONDS and ready != "Unknown":
            patch = {"status": {"conditions": conditions_of_silent(node, datetime.now(UTC))}}
            node = await self._client.patch(NODES, name, patch, subresource="status")
            self._nodes.wrote(node)
            ready = "Unknown"
        taints = taints_of(node, ready)
        if taints != (node.get("spec", {}).get("taints") or []):
            version = node["metadata"]["resourceVersion"]
            patch = {"metadata": {"resourceVersion": version}, "spec": {"taints": taints}}
            self._nodes.wrote(await self._client.patch(NODES, name, patch))


class LostPods:
    """Deletes Pods that are bound to a node of which there is no object, and so no kubelet to end them."""

    def __init__(self, client: Client, pods: Mirror, nodes: Mirror) -> None:
        self._client, self._pods, self._nodes = client, pods, nodes
        self._queue: Queue[Key] = Queue("lost-pod")
        pods.informer.subscribe(self._pod_changed)
        nodes.informer.subscribe(self._node_changed)

    def _pod_changed(self, change: Change[Object]) -> None:
        node = change.new and change.new["spec"].get("nodeName")
        known = change.old and change.old["spec"].get("nodeName") == node
        if node and not known and ("", node) not in self._nodes.informer.objects:
            self._queue.add_after(change.key, GRACE_SECONDS)

    def _node_changed(self, change: Change[Object]) -> None:
        if change.new is None:
            for pod in self._pods:
                if pod["spec"].get("nodeName") == change.key[1]:
                    self._queue.add_after(key_of(pod), GRACE_SECONDS)

    async def run(self) -> None:
        """Never returns."""
        await synced(self._pods, self._nodes)
        await self._queue.run(self._look_at)

    async def _look_at(self, key: Key) -> None:
        pod = self._pods.get(key)
        if pod is None or is_finished(pod):
            return
        try:
            await self._client.get(NODES, pod["spec"]["nodeName"])
        except NotFound:
            uid = pod["metadata"]["uid"]
            await self._client.delete(PODS, key[1], key[0], grace_period_seconds=0, uid=uid)
