"""ReplicaSets: as many Pods as are asked for."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from tulle.apiserver.controllers.objects import (
    Object,
    condition,
    controller_reference,
    is_active,
    is_deleting,
    is_ready,
    pod_from,
    seconds_to_available,
)
from tulle.apiserver.controllers.pods import Actions, Dependents, Plan, claim, owners_of
from tulle.apiserver.controllers.work import Mirror, synced
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.queue import Queue
from tulle.kube.resources import REPLICASETS, Key

BURST = 500
"""Pods created for one ReplicaSet before it is looked at again."""

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = ("Pending", "Unknown", "Running")


def plan(replicaset: Object, pods: list[Object], now: datetime) -> Plan:
    """``pods`` are those of the namespace."""
    spec = replicaset["spec"]
    claimed = claim(replicaset, pods)
    active = [pod for pod in claimed.mine if is_active(pod)]
    create, delete = [], []
    if not is_deleting(replicaset):
        missing = spec.get("replicas", 1) - len(active)
        reference = controller_reference(REPLICASETS, replicaset)
        create = [pod_from(spec["template"], replicaset, reference) for _ in range(min(missing, BURST))]
        delete = sorted(active, key=deletion_rank)[: max(0, -missing)]
    waits = [seconds_to_available(pod, spec.get("minReadySeconds", 0), now) for pod in active]
    template_labels = (spec["template"]["metadata"].get("labels") or {}).items()
    status = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(
            template_labels <= (pod["metadata"].get("labels") or {}).items() for pod in active
        ),
        "readyReplicas": sum(map(is_ready, active)),
        "availableReplicas": waits.count(0),
        "terminatingReplicas": sum(map(is_deleting, claimed.mine)),
        "observedGeneration": replicaset["metadata"].get("generation", 0),
    }
    actions = Actions(create, delete, claimed.adopt, claimed.release)
    return Plan(actions, status, min((wait for wait in waits if wait > 0), default=math.inf))


def deletion_rank(pod: Object) -> tuple[bool, int, bool, int, float, int, float]:
    """The smaller, the earlier a Pod goes: what serves least first, then the newest."""
    status = pod.get("status", {})
    phase = status.get("phase", "Pending")
    cost = (pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0")
    restarts = sum(container.get("restartCount", 0) for container in status.get("containerStatuses", []))
    return (
        bool(pod["spec"].get("nodeName")),
        _PHASES.index(phase) if phase in _PHASES else 0,
        is_ready(pod),
        int(cost) if cost.lstrip("-").isdigit() else 0,
        -_seconds((condition(pod, "Ready") or {}).get("lastTransitionTime")),
        -restarts,
        -_seconds(pod["metadata"].get("creationTimestamp")),
    )


def _seconds(time: str | None) -> float:
    return datetime.fromisoformat(time).timestamp() if time else 0.0


class ReplicaSets:
    """Keeps each ReplicaSet's Pods and status."""

    def __init__(self, client: Client, replicasets: Mirror, pods: Mirror) -> None:
        self._client, self._replicasets, self._pods = client, replicasets, pods
        self._queue: Queue[Key] = Queue("replicaset")
        self._dependents = Dependents(client, pods, REPLICASETS)
        replicasets.informer.subscribe(lambda change: self._queue.add(change.key))
        pods.informer.subscribe(self._pod_changed)

    def _pod_changed(self, change: Change[Object]) -> None:
        for key in owners_of(change, "ReplicaSet", self._replicasets):
            self._queue.add(key)

    async def run(self) -> None:
        """Never returns."""
        await synced(self._replicasets, self._pods)
        await self._queue.run(self._look_at)

    async def _look_at(self, key: Key) -> None:
        replicaset = self._replicasets.get(key)
        if replicaset is None:
            return
        wanted = plan(replicaset, self._pods.in_namespace(key[0]), datetime.now(UTC))
        try:
            await self._dependents.carry_out(replicaset, wanted.actions)
        finally:
            await self._report(replicaset, wanted)

    async def _report(self, replicaset: Object, wanted: Plan) -> None:
        key = (replicaset["metadata"]["namespace"], replicaset["metadata"]["name"])
        if wanted.look_again < math.inf:
            self._queue.add_after(key, wanted.look_again)
        if not wanted.status.items() <= replicaset.get("status", {}).items():
            patch = {"status": wanted.status}
            answer = await self._client.patch(REPLICASETS, key[1], patch, key[0], subresource="status")
            self._replicasets.wrote(answer)
