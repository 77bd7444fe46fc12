"""The Pods behind each Service, as the watch shows them, and word of every change that concerns a Service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tulle.apiserver.controllers.labelled import Labelled, Selectors
from tulle.apiserver.controllers.objects import Object, is_deleting, is_finished, is_ready
from tulle.apiserver.controllers.work import Mirror, synced
from tulle.kube.cache import Change
from tulle.kube.resources import Key

ZONE = "topology.kubernetes.io/zone"


class Members:
    """``zones`` has each node by name with its zone, empty where it has none."""

    def __init__(self, services: Mirror, pods: Mirror, nodes: Mirror) -> None:
        self.services = services
        self._pods, self._nodes = pods, nodes
        self._labelled, self._selectors = Labelled(), Selectors()
        self._callbacks: list[Callable[[Key], None]] = []
        self.zones: dict[str, str] = {}
        nodes.informer.subscribe(self._node_changed)
        pods.informer.subscribe(self._pod_changed)
        services.informer.subscribe(self._service_changed)

    def subscribe(self, concerned: Callable[[Key], None]) -> None:
        """``concerned`` is told each Service that changed, or whose Pods did, once this knows of it."""
        self._callbacks.append(concerned)

    def of(self, service: Object) -> list[Object]:
        """The Pods that ``service`` selects, in order of their names."""
        selected = self._labelled.selected(service["metadata"]["namespace"], selector_of(service))
        return [self._pods.informer.objects[key] for key in selected]

    async def synced(self) -> None:
        await synced(self.services, self._pods, self._nodes)

    def _tell(self, keys: set[Key]) -> None:
        for key in keys:
            for callback in self._callbacks:
                callback(key)

    def _service_changed(self, change: Change[Object]) -> None:
        self._selectors.put(change.key, selector_of(change.new) if change.new else {})
        self._tell({change.key})

    def _pod_changed(self, change: Change[Object]) -> None:
        if change.new is None:
            self._labelled.remove(change.key)
        elif change.old is None or _labels(change.old) != _labels(change.new):
            self._labelled.put(change.key, _labels(change.new))
        if _facts(change.old) != _facts(change.new):
            self._tell(self._selecting(change.old) | self._selecting(change.new))

    def _selecting(self, pod: Object | None) -> set[Key]:
        found = pod or {"metadata": {"namespace": ""}}
        return set(self._selectors.selecting(found["metadata"]["namespace"], _labels(found)))

    def _node_changed(self, change: Change[Object]) -> None:
        """A node that goes is no news: its Pods go, too, or it comes back, and endpoints must not flap."""
        name = change.key[1]
        if change.new is None:
            self.zones.pop(name, None)
            return
        zone = _labels(change.new).get(ZONE, "")
        if self.zones.get(name) == zone:
            return
        self.zones[name] = zone
        if self._nodes.informer.synced.is_set():
            pods = self._pods.informer.objects.values()
            there = [pod for pod in pods if pod["spec"].get("nodeName") == name]
            self._tell(set().union(*map(self._selecting, there)))


def selector_of(service: Object) -> dict[str, str]:
    """Empty for a Service that selects no Pods; an ExternalName selects none, whatever it says."""
    spec = service["spec"]
    return {} if spec.get("type") == "ExternalName" else spec.get("selector") or {}


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def _facts(pod: Object | None) -> Any:
    """What endpoints are made of, as far as it changes during the life of a Pod."""
    if pod is None:
        return None
    spec, status = pod["spec"], pod.get("status", {})
    addresses = (status.get("podIP"), status.get("podIPs"))
    fixed = (pod["metadata"]["uid"], spec.get("nodeName"), spec.get("hostname"), spec.get("subdomain"))
    return _labels(pod), is_ready(pod), is_deleting(pod), is_finished(pod), addresses, fixed
