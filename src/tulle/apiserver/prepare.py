"""Values that depend on other fields; plain defaults stand in ``builtin.types``."""

from __future__ import annotations

from base64 import b64encode

from tulle.apiserver.kinds import Object


def pod(new: Object, old: Object | None) -> None:
    spec = new["spec"]
    _pod_spec(spec)
    if old is None:
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        new["status"] = {"phase": "Pending", "qosClass": _quality(spec)}


def _containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", ()), *spec["containers"]]


def _pod_spec(spec: Object) -> None:
    for container in _containers(spec):
        if "imagePullPolicy" not in container:
            latest = ":" not in (image := container.get("image", "").rsplit("/", 1)[-1]) or image.endswith(
                ":latest"
            )
            container["imagePullPolicy"] = "Always" if latest and "@" not in image else "IfNotPresent"
        if spec.get("hostNetwork"):
            for port in container.get("ports", ()):
                port.setdefault("hostPort", port["containerPort"])


def _quality(spec: Object) -> str:
    """The quality-of-service class: Guaranteed, Burstable or BestEffort."""
    demands = [c.get("resources", {}) for c in _containers(spec)]
    if not any(d.get("limits") or d.get("requests") for d in demands):
        return "BestEffort"

    def settled(demand: Object) -> bool:
        limits: Object = demand.get("limits", {})
        requests: Object = demand.get("requests", limits)
        return {"cpu", "memory"} <= limits.keys() and requests.items() <= limits.items()

    return "Guaranteed" if all(map(settled, demands)) else "Burstable"


def replica_set(new: Object, old: Object | None) -> None:
    template = new["spec"].get("template", {})
    if "spec" in template:
        _pod_spec(template["spec"])


def daemon_set(new: Object, old: Object | None) -> None:
    replica_set(new, old)
    strategy = new["spec"]["updateStrategy"]
    if strategy["type"] == "RollingUpdate":
        strategy["rollingUpdate"] = {"maxUnavailable": 1, "maxSurge": 0} | strategy.get("rollingUpdate", {})


def deployment(new: Object, old: Object | None) -> None:
    replica_set(new, old)
    strategy = new["spec"]["strategy"]
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate", {})
        strategy["rollingUpdate"] = {"maxUnavailable": "25%", "maxSurge": "25%"} | rolling


def namespace(new: Object, old: Object | None) -> None:
    new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = new["metadata"]["name"]
    if old is None:
        new["spec"]["finalizers"] = ["kubernetes"]
        new["status"] = {"phase": "Active"}


def node(new: Object, old: Object | None) -> None:
    """``podCIDR`` is the first of ``podCIDRs``, whichever of them was given."""
    spec = new["spec"]
    if "podCIDR" in spec:
        spec.setdefault("podCIDRs", [spec["podCIDR"]])
    elif spec.get("podCIDRs"):
        spec["podCIDR"] = spec["podCIDRs"][0]


def secret(new: Object, old: Object | None) -> None:
    """``stringData`` is for writing only: it goes into ``data``, encoded."""
    for key, text in new.pop("stringData", {}).items():
        new.setdefault("data", {})[key] = b64encode(text.encode()).decode()


def policy(new: Object, old: Object | None) -> None:
    spec = new["spec"]
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
