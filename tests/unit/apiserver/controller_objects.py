"""Objects for the controllers' tests, with just the fields that they look at."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import Any

Object = dict[str, Any]

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
CREATED = "2026-05-01T11:00:00Z"
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
_uids = count()


def metadata(name: str, **more: Any) -> Object:
    uid = f"uid-{name}-{next(_uids)}"
    fixed = {"namespace": "default", "uid": uid, "creationTimestamp": CREATED, "resourceVersion": "1"}
    return {"name": name, **fixed, "generation": 1, **more}


def owned_by(owner: Object, kind: str) -> list[Object]:
    reference = {"kind": kind, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
    return [{"apiVersion": "apps/v1", **reference, "controller": True}]


def ready(status: str = "True", since: str = CREATED) -> list[Object]:
    return [{"type": "Ready", "status": status, "lastTransitionTime": since}]


def pod(name: str = "p", *, spec: Object | None = None, status: Object | None = None, **more: Any) -> Object:
    given = {"containers": [{"name": "c"}], **(spec or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(name, **{"labels": {"app": "web"}, **more}),
        "spec": given,
        "status": {"phase": "Pending", **(status or {})},
    }


def running(name: str = "p", **more: Any) -> Object:
    conditions = more.pop("conditions", ready())
    return pod(name, spec={"nodeName": "n1"}, status={"phase": "Running", "conditions": conditions}, **more)


def node(name: str, *, labels: Object | None = None, status: Object | None = None, **spec: Any) -> Object:
    return {
        "kind": "Node",
        "metadata": metadata(name, labels=labels or {}),
        "spec": spec,
        "status": status or {},
    }


def workload(kind: str, **spec: Any) -> Object:
    """A Deployment, ReplicaSet or DaemonSet as the API stores it."""
    given = {"selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata("web"), "spec": given, "status": {}}
