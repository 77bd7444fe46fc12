"""A Pod's ``status``, computed from what its containers do (Kubernetes API, PodStatus). No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from tulle.lab.kubelet.objects import Condition, Container, Pod
from tulle.lab.kubelet.records import ContainerRecord

Json = dict[str, Any]
Role = Literal["init", "sidecar", "main"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container does not run now."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """What one container does now. Without ``waiting`` it runs or has ended, as ``record`` says."""

    role: Role
    spec: Container
    record: ContainerRecord
    waiting: Waiting | None
    started: bool
    ready: bool

    @property
    def runs(self) -> bool:
        return self.waiting is None and self.record.pid != 0

    @property
    def exit_code(self) -> int | None:
        """None while it may still run, or run again."""
        ended = self.record.ended
        return ended.exit_code if ended and self.waiting is None and not self.runs else None


@dataclass(frozen=True, slots=True)
class Facts:
    """The rest that goes into ``status``. Addresses come with the primary family first."""

    sandbox: bool
    pod_ips: Sequence[str]
    host_ips: Sequence[str]
    start_time: str
    now: str


def pod_status(pod: Pod, views: Sequence[View], facts: Facts) -> Json:
    """For a strategic merge patch: conditions that are not the kubelet's are left as they are."""
    mains = [view for view in views if view.role == "main"]
    inits = [view for view in views if view.role != "main"]
    current = phase(pod, views)
    status: Json = {
        "phase": current,
        "conditions": _conditions(pod, views, facts, current),
        "hostIP": facts.host_ips[0],
        "hostIPs": [{"ip": ip} for ip in facts.host_ips],
        "startTime": facts.start_time,
        "containerStatuses": [container_status(view) for view in mains],
    }
    if facts.pod_ips:
        status |= {"podIP": facts.pod_ips[0], "podIPs": [{"ip": ip} for ip in facts.pod_ips]}
    if inits:
        status["initContainerStatuses"] = [container_status(view) for view in inits]
    return status


def phase(pod: Pod, views: Sequence[View]) -> str:
    """Sidecars do not count: they go on as long as the others do."""
    policy = pod.spec.restart_policy
    codes = {role: [v.exit_code for v in views if v.role == role] for role in ("init", "main")}
    if policy == "Never" and any(codes["init"]):
        return "Failed"
    if not initialized(views):
        return "Pending"
    if policy != "Always" and None not in codes["main"]:
        if not any(codes["main"]):
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    never_ran = [v for v in views if v.role == "main" and v.waiting and v.record.last is None]
    return "Pending" if never_ran else "Running"


def initialized(views: Sequence[View]) -> bool:
    """Whether init containers have succeeded and sidecars have started; once a main one ran it stays so."""
    if any(view.role == "main" and view.record.attempt for view in views):
        return True
    done = {"init": lambda view: view.exit_code == 0, "sidecar": lambda view: view.started}
    return all(done[view.role](view) for view in views if view.role in done)


def container_status(view: View) -> Json:
    """One of ``containerStatuses``."""
    record = view.record
    status: Json = {
        "name": view.spec.name,
        "image": view.spec.image,
        "imageID": record.image_id,
        "restartCount": max(0, record.attempt - 1),
        "ready": view.exit_code == 0 if view.role == "init" else view.ready,
        "started": view.runs and view.started,
        "state": _state(view),
        "lastState": {"terminated": msgspec.to_builtins(record.last)} if record.last else {},
    }
    if record.id:
        status["containerID"] = f"crun://{record.id}"
    return status


def _state(view: View) -> Json:
    if view.waiting:
        return {"waiting": {"reason": view.waiting.reason, "message": view.waiting.message}}
    if view.runs:
        return {"running": {"startedAt": view.record.started_at}}
    return {"terminated": msgspec.to_builtins(view.record.ended)}


def _conditions(pod: Pod, views: Sequence[View], facts: Facts, current: str) -> list[Json]:
    """With the time of their last transition, which stays while ``status`` does."""
    unready = [v.spec.name for v in views if v.role != "init" and not v.ready]
    waiting = [v.spec.name for v in views if v.role == "init" and v.exit_code != 0]
    completed = current in ("Succeeded", "Failed")
    containers = _containers_ready(unready, current)
    wanted = [
        Condition("PodReadyToStartContainers", _word(facts.sandbox)),
        _unless(waiting, "Initialized", "ContainersNotInitialized", "containers with incomplete status")
        if not initialized(views) and not completed
        else Condition("Initialized", "True", reason="PodCompleted" if completed else ""),
        _ready(pod, containers),
        containers,
        Condition("PodScheduled", "True"),
    ]
    before = {condition.type: condition for condition in pod.status.conditions}
    return [_written(_timed(condition, before, facts.now)) for condition in wanted]


def _written(condition: Condition) -> Json:
    """For a merge patch, where a field that is left out would stay as it was."""
    return {name: value or None for name, value in msgspec.to_builtins(condition).items()}


def _word(value: bool) -> str:
    return "True" if value else "False"


def _unless(names: list[str], kind: str, reason: str, what: str) -> Condition:
    return Condition(kind, "False", reason=reason, message=f"{what}: [{' '.join(names)}]")


def _containers_ready(unready: list[str], current: str) -> Condition:
    if current in ("Succeeded", "Failed"):
        reason = "PodCompleted" if current == "Succeeded" else "PodFailed"
        return Condition("ContainersReady", "False", reason=reason)
    if unready:
        return _unless(unready, "ContainersReady", "ContainersNotReady", "containers with unready status")
    return Condition("ContainersReady", "True")


def _ready(pod: Pod, containers: Condition) -> Condition:
    """Containers and readiness gates, together."""
    if containers.status == "False":
        return msgspec.structs.replace(containers, type="Ready")
    true = {condition.type for condition in pod.status.conditions if condition.status == "True"}
    for gate in pod.spec.readiness_gates:
        if gate.condition_type not in true:
            message = f'corresponding condition of pod readiness gate "{gate.condition_type}" is not True'
            return Condition("Ready", "False", reason="ReadinessGatesNotReady", message=message)
    return Condition("Ready", "True")


def _timed(condition: Condition, before: dict[str, Condition], now: str) -> Condition:
    old = before.get(condition.type)
    same = old is not None and old.status == condition.status and old.last_transition_time
    time = old.last_transition_time if old and same else now
    return msgspec.structs.replace(condition, last_transition_time=time)
