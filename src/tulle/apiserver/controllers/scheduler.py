"""The scheduler: gives each Pod a node. It looks at all waiting Pods at once, and binds them in parallel."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tulle.apiserver.controllers.objects import (
    Object,
    condition,
    controller_of,
    is_deleting,
    is_finished,
    key_of,
    stamp,
)
from tulle.apiserver.controllers.placement import (
    UNSCHEDULABLE,
    HostPort,
    fits_affinity,
    host_ports,
    offer,
    ports_collide,
    untolerated_taint,
)
from tulle.apiserver.controllers.words import Recorder
from tulle.apiserver.controllers.work import Mirror, in_parallel, synced
from tulle.errors import ApiError, ApiUnreachable, Conflict, NotFound
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.resources import PODS, Resource

log = logging.getLogger(__name__)

NAME = "default-scheduler"
DEFAULT_POD_LIMIT = 110
RETRY_SECONDS = 1.0


@dataclass
class Room:
    """A node, and what the Pods that it has take of it."""

    node: Object
    pods: int = 0
    ports: list[HostPort] = field(default_factory=list)
    owners: Counter[str] = field(default_factory=Counter)

    def take(self, pod: Object) -> None:
        self.pods += 1
        self.ports += host_ports(pod["spec"])
        self.owners[_owner(pod)] += 1

    def objection(self, pod: Object) -> str:
        """Why ``pod`` cannot run here, in Kubernetes' words; empty if it can."""
        spec = pod["spec"]
        if taint := untolerated_taint(spec.get("tolerations") or [], self.node):
            if taint["key"] == UNSCHEDULABLE:
                return "node(s) were unschedulable"
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
        if not fits_affinity(spec, self.node):
            return "node(s) didn't match Pod's node affinity/selector"
        if ports_collide(host_ports(spec), self.ports):
            return "node(s) didn't have free ports for the requested pod ports"
        limit = self.node.get("status", {}).get("allocatable", {}).get("pods", DEFAULT_POD_LIMIT)
        return "Too many pods" if self.pods >= int(limit) else ""


@dataclass(frozen=True)
class Placement:
    """``node`` is empty when there is none, and ``message`` says why."""

    pod: Object
    node: str = ""
    message: str = ""


def place(pods: Iterable[Object], nodes: Iterable[Object]) -> list[Placement]:
    """A placement for each Pod that waits, the oldest first; each counts for those after it."""
    rooms = {node["metadata"]["name"]: Room(node) for node in nodes if not is_deleting(node)}
    waiting = []
    for pod in pods:
        if (name := pod["spec"].get("nodeName")) in rooms and not is_finished(pod):
            rooms[name].take(pod)
        elif is_waiting(pod):
            waiting.append(pod)
    waiting.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    return [_place(pod, rooms) for pod in waiting]


def is_waiting(pod: Object) -> bool:
    spec = pod["spec"]
    ours = spec.get("schedulerName", NAME) == NAME and not spec.get("schedulingGates")
    return ours and not spec.get("nodeName") and not is_deleting(pod) and not is_finished(pod)


def _place(pod: Object, rooms: dict[str, Room]) -> Placement:
    objections = {name: room.objection(pod) for name, room in rooms.items()}
    fitting = [name for name, objection in objections.items() if not objection]
    if not fitting:
        return Placement(pod, message=_explained(objections))
    owner = _owner(pod)
    best = min(fitting, key=lambda name: (rooms[name].owners[owner], rooms[name].pods, name))
    rooms[best].take(pod)
    return Placement(pod, best)


def _explained(objections: dict[str, str]) -> str:
    if not objections:
        return "no nodes available to schedule pods"
    reasons = sorted(f"{count} {reason}" for reason, count in Counter(objections.values()).items())
    return f"0/{len(objections)} nodes are available: {', '.join(reasons)}."


def _owner(pod: Object) -> str:
    """Pods of one owner are spread; a Pod without one is an owner to itself."""
    reference = controller_of(pod)
    return str(reference["uid"] if reference else pod["metadata"]["uid"])


class Scheduler:
    """Wakes up when a Pod waits, or when something changed that could let a waiting one run."""

    def __init__(self, client: Client, pods: Mirror, nodes: Mirror, recorder: Recorder) -> None:
        self._client, self._pods, self._nodes, self._recorder = client, pods, nodes, recorder
        self._wake = asyncio.Event()
        self._hopeless = False
        self._bound: dict[str, str] = {}
        pods.informer.subscribe(self._pod_changed)
        nodes.informer.subscribe(self._node_changed)

    def _pod_changed(self, change: Change[Object]) -> None:
        ended = change.new is None or is_finished(change.new)
        if change.old is not None and (change.new is None or change.new["spec"].get("nodeName")):
            self._bound.pop(change.old["metadata"]["uid"], None)
        if (change.new is not None and is_waiting(change.new)) or (ended and self._hopeless):
            self._wake.set()

    def _node_changed(self, change: Change[Object]) -> None:
        if offer(change.old) != offer(change.new):
            self._wake.set()

    async def run(self) -> None:
        """Never returns."""
        await synced(self._nodes, self._pods)
        while True:
            await self._wake.wait()
            self._wake.clear()
            placements = place(map(self._as_bound, self._pods), self._nodes)
            self._hopeless = any(not placement.node for placement in placements)
            try:
                await in_parallel(map(self._settle, placements))
            except (ApiError, ApiUnreachable) as error:
                log.warning("scheduler: %s: will be tried again", error)
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._wake.set)

    def _as_bound(self, pod: Object) -> Object:
        """``pod`` with the node that we gave it, of which the watch may not have told yet."""
        node = self._bound.get(pod["metadata"]["uid"])
        return {**pod, "spec": {**pod["spec"], "nodeName": node}} if node else pod

    async def _settle(self, placement: Placement) -> None:
        try:
            if placement.node:
                await self._bind(placement.pod, placement.node)
            else:
                await self._refuse(placement.pod, placement.message)
        except (NotFound, Conflict):
            return  # the Pod is gone or bound already, and the watch will say so

    async def _bind(self, pod: Object, node: str) -> None:
        namespace, name = key_of(pod)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": pod["metadata"]["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await self._client.create(_bindings(name), binding, namespace)
        seen = self._pods.informer.objects.get((namespace, name))
        if seen is not None and not seen["spec"].get("nodeName"):
            self._bound[pod["metadata"]["uid"]] = node
        message = f"Successfully assigned {namespace}/{name} to {node}"
        self._recorder.record(NAME, pod, "Normal", "Scheduled", message)

    async def _refuse(self, pod: Object, message: str) -> None:
        if (condition(pod, "PodScheduled") or {}).get("message") == message:
            return
        namespace, name = key_of(pod)
        verdict = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        dated = {**verdict, "lastTransitionTime": stamp(datetime.now(UTC))}
        patch = {"status": {"conditions": [dated]}}
        answer = await self._client.patch(PODS, name, patch, namespace, "status", kind="strategic")
        self._pods.wrote(answer)
        self._recorder.record(NAME, pod, "Warning", "FailedScheduling", message)


def _bindings(pod: str) -> Resource[Object]:
    """The collection that a binding of ``pod`` is created in."""
    return Resource("", "v1", f"pods/{pod}/binding", "Binding", dict)
