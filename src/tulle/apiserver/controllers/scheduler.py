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
from tulle.kube.resources import PODS, Key, Resource

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


def place(waiting: Iterable[Object], placed: Iterable[Object], nodes: Iterable[Object]) -> list[Placement]:
    """A placement for each Pod that waits, the oldest first; each counts for those after it."""
    rooms = {node["metadata"]["name"]: Room(node) for node in nodes if not is_deleting(node)}
    for pod in placed:
        if room := rooms.get(pod["spec"]["nodeName"]):
            room.take(pod)
    oldest = sorted(waiting, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    return [_place(pod, rooms) for pod in oldest]


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
    """Wakes up when a Pod waits, or when something changed that could let a refused one run."""

    def __init__(self, client: Client, pods: Mirror, nodes: Mirror, recorder: Recorder) -> None:
        self._client, self._pods, self._nodes, self._recorder = client, pods, nodes, recorder
        self._wake = asyncio.Event()
        self._waiting: dict[Key, Object] = {}
        self._refused: dict[Key, Object] = {}
        self._placed: dict[Key, Object] = {}
        pods.informer.subscribe(self._pod_changed)
        nodes.informer.subscribe(self._node_changed)

    def _pod_changed(self, change: Change[Object]) -> None:
        pod, was_placed = change.new, self._placed.pop(change.key, None)
        self._waiting.pop(change.key, None)
        self._refused.pop(change.key, None)
        if pod is not None and is_waiting(pod):
            self._waiting[change.key] = pod
            self._wake.set()
        elif pod is not None and pod["spec"].get("nodeName") and not is_finished(pod):
            self._placed[change.key] = pod
        elif was_placed:
            self._give_another_chance()

    def _node_changed(self, change: Change[Object]) -> None:
        if offer(change.old) != offer(change.new):
            self._give_another_chance()

    def _give_another_chance(self) -> None:
        self._waiting |= self._refused
        self._refused.clear()
        self._wake.set()

    async def run(self) -> None:
        """Never returns."""
        await synced(self._nodes, self._pods)
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, {}
            placements = place(waiting.values(), self._placed.values(), self._nodes)
            await in_parallel(map(self._settle, placements))

    async def _settle(self, placement: Placement) -> None:
        pod = placement.pod
        try:
            if placement.node:
                await self._bind(pod, placement.node)
            else:
                self._refused[key_of(pod)] = pod
                await self._refuse(pod, placement.message)
        except (NotFound, Conflict):
            return  # the Pod is gone or bound already, and the watch will say so
        except (ApiError, ApiUnreachable) as error:
            log.warning("scheduler: %s/%s: %s: will be tried again", *key_of(pod), error)
            self._refused[key_of(pod)] = pod
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._give_another_chance)

    async def _bind(self, pod: Object, node: str) -> None:
        namespace, name = key_of(pod)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": pod["metadata"]["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        # It counts from now on, not only once the watch tells; what the watch tells meanwhile stands.
        assumed = {**pod, "spec": {**pod["spec"], "nodeName": node}}
        self._placed[namespace, name] = assumed
        try:
            await self._client.create(_bindings(name), binding, namespace)
        except (ApiError, ApiUnreachable):
            if self._placed.get((namespace, name)) is assumed:
                del self._placed[namespace, name]
            raise
        message = f"Successfully assigned {namespace}/{name} to {node}"
        self._recorder.record(NAME, pod, "Normal", "Scheduled", message)

    async def _refuse(self, pod: Object, message: str) -> None:
        if (condition(pod, "PodScheduled") or {}).get("message") == message:
            return
        namespace, name = key_of(pod)
        verdict = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        dated = {**verdict, "lastTransitionTime": stamp(datetime.now(UTC))}
        patch = {"status": {"conditions": [dated]}}
        await self._client.patch(PODS, name, patch, namespace, "status", kind="strategic")
        self._recorder.record(NAME, pod, "Warning", "FailedScheduling", message)


def _bindings(pod: str) -> Resource[Object]:
    """The collection that a binding of ``pod`` is created in."""
    return Resource("", "v1", f"pods/{pod}/binding", "Binding", dict)
