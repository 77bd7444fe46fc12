"""DaemonSets: one Pod on every node that may have one."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime

from tulle.apiserver.controllers.objects import (
    Object,
    controller_reference,
    is_active,
    is_deleting,
    is_finished,
    is_ready,
    pod_from,
    seconds_to_available,
    share_of,
    template_hash,
)
from tulle.apiserver.controllers.placement import (
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    fits_affinity,
    offer,
    untolerated_taint,
)
from tulle.apiserver.controllers.pods import Actions, Dependents, Plan, claim, owners_of
from tulle.apiserver.controllers.work import Mirror, synced
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.queue import Queue
from tulle.kube.resources import DAEMONSETS, Key

REVISION_LABEL = "controller-revision-hash"
_PRESSURES = ("disk-pressure", "memory-pressure", "pid-pressure")
TOLERATIONS = [
    {"key": NOT_READY, "operator": "Exists", "effect": "NoExecute"},
    {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"},
    *(
        {"key": key, "operator": "Exists", "effect": "NoSchedule"}
        for key in (
            *(f"node.kubernetes.io/{name}" for name in _PRESSURES),
            UNSCHEDULABLE,
            NOT_READY,
            UNREACHABLE,
        )
    ),
]
"""A network's own agent is a DaemonSet: it must start on a node that is not ready for want of a network."""

NETWORK_UNAVAILABLE = {
    "key": "node.kubernetes.io/network-unavailable",
    "operator": "Exists",
    "effect": "NoSchedule",
}


def plan(daemonset: Object, nodes: list[Object], pods: list[Object], now: datetime) -> Plan:
    """``pods`` are those of the namespace."""
    claimed = claim(daemonset, pods)
    by_node: defaultdict[str, list[Object]] = defaultdict(list)
    for pod in sorted(claimed.mine, key=lambda pod: pod["metadata"]["creationTimestamp"]):
        by_node[node_of(pod)].append(pod)
    spec = {**daemonset["spec"]["template"]["spec"], "tolerations": tolerations(daemonset)}
    fitting = [node for node in nodes if fits_affinity(spec, node) and not is_deleting(node)]
    start = {n["metadata"]["name"] for n in fitting if not untolerated_taint(spec["tolerations"], n)}
    stay = {
        n["metadata"]["name"]
        for n in fitting
        if not untolerated_taint(spec["tolerations"], n, ("NoExecute",))
    }
    wait = min((w for p in claimed.mine if 0 < (w := _wait(daemonset, p, now)) < math.inf), default=math.inf)
    status = _status(daemonset, start, by_node, now)
    if is_deleting(daemonset):
        return Plan(Actions(release=claimed.release), status)
    create = [name for name in sorted(start) if not by_node[name]]
    delete = [pod for pod in claimed.mine if is_finished(pod) and not is_deleting(pod)]
    delete += [p for name, there in by_node.items() if name not in stay for p in there if is_active(p)]
    surged, replaced = _replacements(daemonset, {name: by_node[name] for name in sorted(start & stay)}, now)
    new = [pod_for(daemonset, name) for name in [*create, *surged]]
    return Plan(Actions(new, delete + replaced, claimed.adopt, claimed.release), status, wait)


def _replacements(
    daemonset: Object, by_node: dict[str, list[Object]], now: datetime
) -> tuple[list[str], list[Object]]:
    """(nodes that get a second Pod, Pods to delete): duplicates, and what a rolling update lets go now."""
    revision = revision_of(daemonset)
    new, old = dict[str, Object](), dict[str, Object]()
    surplus = []
    for name, there in by_node.items():
        for pod in filter(is_active, there):
            same = new if pod["metadata"]["labels"].get(REVISION_LABEL) == revision else old
            surplus += [pod] if name in same else []
            same.setdefault(name, pod)
    strategy = daemonset["spec"]["updateStrategy"]
    if strategy["type"] != "RollingUpdate":
        return [], surplus
    limits = strategy["rollingUpdate"]
    serving = {name for name, there in by_node.items() if any(_wait(daemonset, p, now) == 0 for p in there)}
    order = sorted(old, key=lambda name: (name in serving, name))
    if surge := share_of(limits.get("maxSurge", 0), len(by_node), round_up=True):
        done = [old[name] for name in order if name in new and _wait(daemonset, new[name], now) == 0]
        started = sum(name in new for name in old)
        waiting = [name for name in order if name not in new and len(by_node[name]) == 1]
        return waiting[: max(0, surge - started)], surplus + done
    missing = share_of(limits.get("maxUnavailable", 1), len(by_node), round_up=True)
    spare = max(0, missing - (len(by_node) - len(serving)))
    idle = sum(name not in serving for name in old)
    return [], surplus + [old[name] for name in order][: idle + spare]


def _status(daemonset: Object, start: set[str], by_node: dict[str, list[Object]], now: datetime) -> Object:
    running = {name: [p for p in there if is_active(p)] for name, there in by_node.items()}
    placed = [running[name] for name in start if running.get(name)]
    available = sum(any(_wait(daemonset, pod, now) == 0 for pod in there) for there in placed)
    revision = revision_of(daemonset)
    return {
        "desiredNumberScheduled": len(start),
        "currentNumberScheduled": len(placed),
        "numberMisscheduled": sum(bool(there) for name, there in running.items() if name not in start),
        "numberReady": sum(any(map(is_ready, there)) for there in placed),
        "updatedNumberScheduled": sum(
            any(pod["metadata"]["labels"].get(REVISION_LABEL) == revision for pod in there)
            for there in placed
        ),
        "numberAvailable": available,
        "numberUnavailable": len(start) - available,
        "observedGeneration": daemonset["metadata"].get("generation", 0),
    }


def pod_for(daemonset: Object, node: str) -> Object:
    """The Pod for one node: the scheduler binds it, there or nowhere."""
    pod = pod_from(daemonset["spec"]["template"], daemonset, controller_reference(DAEMONSETS, daemonset))
    pod["metadata"]["labels"][REVISION_LABEL] = revision_of(daemonset)
    there = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity = dict(pod["spec"].get("affinity") or {})
    required = (affinity.get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    terms = [{**term, "matchFields": [there]} for term in required.get("nodeSelectorTerms") or [{}]]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    affinity["nodeAffinity"] = {**(affinity.get("nodeAffinity") or {}), **required}
    pod["spec"] = {**pod["spec"], "affinity": affinity, "tolerations": tolerations(daemonset)}
    return pod


def node_of(pod: Object) -> str:
    """The node that a Pod of a DaemonSet is on or is for."""
    if name := pod["spec"].get("nodeName"):
        return str(name)
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    fields = (field for t in required.get("nodeSelectorTerms") or [] for field in t.get("matchFields") or [])
    return next((str(f["values"][0]) for f in fields if f["key"] == "metadata.name" and f.get("values")), "")


def tolerations(daemonset: Object) -> list[Object]:
    spec = daemonset["spec"]["template"]["spec"]
    added = [*TOLERATIONS, NETWORK_UNAVAILABLE] if spec.get("hostNetwork") else TOLERATIONS
    own = spec.get("tolerations") or []
    return [*own, *(each for each in added if each not in own)]


def revision_of(daemonset: Object) -> str:
    return template_hash(daemonset["spec"]["template"])


def _wait(daemonset: Object, pod: Object, now: datetime) -> float:
    return seconds_to_available(pod, daemonset["spec"].get("minReadySeconds", 0), now)


class DaemonSets:
    """Keeps each DaemonSet's Pods and status."""

    def __init__(self, client: Client, daemonsets: Mirror, pods: Mirror, nodes: Mirror) -> None:
        self._client = client
        self._daemonsets, self._pods, self._nodes = daemonsets, pods, nodes
        self._queue: Queue[Key] = Queue("daemonset")
        self._dependents = Dependents(client, pods, DAEMONSETS)
        daemonsets.informer.subscribe(lambda change: self._queue.add(change.key))
        pods.informer.subscribe(self._pod_changed)
        nodes.informer.subscribe(self._node_changed)

    def _pod_changed(self, change: Change[Object]) -> None:
        for key in owners_of(change, "DaemonSet", self._daemonsets):
            self._queue.add(key)

    def _node_changed(self, change: Change[Object]) -> None:
        if offer(change.old) != offer(change.new):
            for key in self._daemonsets.informer.objects:
                self._queue.add(key)

    async def run(self) -> None:
        """Never returns."""
        await synced(self._daemonsets, self._pods, self._nodes)
        await self._queue.run(self._look_at)

    async def _look_at(self, key: Key) -> None:
        daemonset = self._daemonsets.get(key)
        if daemonset is None:
            return
        wanted = plan(daemonset, list(self._nodes), self._pods.in_namespace(key[0]), datetime.now(UTC))
        if wanted.look_again < math.inf:
            self._queue.add_after(key, wanted.look_again)
        await self._dependents.carry_out(daemonset, wanted.actions)
        if not wanted.status.items() <= daemonset.get("status", {}).items():
            patch = {"status": wanted.status}
            answer = await self._client.patch(DAEMONSETS, key[1], patch, key[0], subresource="status")
            self._daemonsets.wrote(answer)
