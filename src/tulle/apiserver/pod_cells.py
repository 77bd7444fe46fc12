"""What ``kubectl get pods`` says about a Pod: one word for the state of all its containers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tulle.apiserver.times import age_of, humanised

Object = dict[str, Any]


def pod_cells(pod: Object, now: datetime) -> list[Any]:
    """Name, Ready, Status, Restarts, Age; IP, Node, Nominated Node, Readiness Gates."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    view = _view(spec, status)
    reason = view.reason
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    restarts = str(view.restarts)
    if view.restarts and view.last_restart:
        restarts += f" ({humanised(now - datetime.fromisoformat(view.last_restart))} ago)"
    addresses = [address["ip"] for address in status.get("podIPs") or []]
    return [
        pod["metadata"]["name"],
        f"{view.ready}/{len(spec.get('containers', [])) + len(_sidecars(spec))}",
        reason,
        restarts,
        age_of(pod, now),
        addresses[0] if addresses else "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        _readiness_gates(spec, status),
    ]


@dataclass
class _View:
    """What the containers looked at so far add up to; ``last_restart`` is RFC 3339, or empty."""

    reason: str
    ready: int = 0
    restarts: int = 0
    last_restart: str = ""

    def count_restarts(self, container: Object) -> None:
        self.restarts += container.get("restartCount", 0)
        finished = container.get("lastState", {}).get("terminated", {}).get("finishedAt") or ""
        self.last_restart = max(self.last_restart, finished)


def _view(spec: Object, status: Object) -> _View:
    gated = any(c.get("reason") == "SchedulingGated" for c in status.get("conditions", []))
    view = _View("SchedulingGated" if gated else status.get("reason") or status.get("phase", ""))
    initializing = _look_at_init_containers(view, spec, status)
    if not initializing or _is_true(status, "Initialized"):
        # A finished init container's restarts no longer tell anything; a sidecar's do.
        sidecars = _sidecars(spec)
        view.restarts, view.last_restart = 0, ""
        for container in status.get("initContainerStatuses", []):
            if container["name"] in sidecars:
                view.count_restarts(container)
        _look_at_containers(view, status)
    return view


def _look_at_init_containers(view: _View, spec: Object, status: Object) -> bool:
    """Whether the Pod is still held up by one of them."""
    sidecars = _sidecars(spec)
    for number, container in enumerate(status.get("initContainerStatuses", [])):
        view.count_restarts(container)
        state = container.get("state", {})
        if state.get("terminated", {}).get("exitCode") == 0:
            continue
        if container["name"] in sidecars and container.get("started"):
            view.ready += bool(container.get("ready"))
            continue
        why = _stopped(state)
        progress = f"{number}/{len(spec.get('initContainers', []))}"
        view.reason = f"Init:{progress if why in ('', 'PodInitializing') else why}"
        return True
    return False


def _look_at_containers(view: _View, status: Object) -> None:
    """The first container that does not run gives the Pod its word, so they are looked at from the last."""
    running = False
    for container in reversed(status.get("containerStatuses", [])):
        view.count_restarts(container)
        state = container.get("state", {})
        if why := _stopped(state):
            view.reason = why
        elif container.get("ready") and "running" in state:
            running = True
            view.ready += 1
    if view.reason == "Completed" and running:
        view.reason = "Running" if _is_true(status, "Ready") else "NotReady"


def _stopped(state: Object) -> str:
    """Why a container does not run; empty while it does."""
    if "terminated" in state:
        ended = state["terminated"]
        number = (
            f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"
        )
        return str(ended.get("reason") or number)
    return str(state.get("waiting", {}).get("reason", ""))


def _sidecars(spec: Object) -> set[str]:
    return {each["name"] for each in spec.get("initContainers", []) if each.get("restartPolicy") == "Always"}


def _is_true(status: Object, condition: str) -> bool:
    return any(c["type"] == condition and c["status"] == "True" for c in status.get("conditions", []))


def _readiness_gates(spec: Object, status: Object) -> str:
    gates = spec.get("readinessGates") or []
    met = sum(_is_true(status, gate["conditionType"]) for gate in gates)
    return f"{met}/{len(gates)}" if gates else "<none>"
