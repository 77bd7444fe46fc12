"""The pure half of Deployments: from one set of Pods to the next, within what may be missing or surplus.

The rules and annotations are those of Kubernetes' deployment controller, so that ``kubectl rollout`` works.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

from tulle.apiserver.controllers.objects import (
    Object,
    controller_reference,
    share_of,
    template_hash,
)
from tulle.kube.resources import DEPLOYMENTS

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
NOT_COPIED = {
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAXIMUM,
    "kubectl.kubernetes.io/last-applied-configuration",
}


@dataclass(frozen=True)
class Rollout:
    """What is to be done now. ``scale`` has new sizes by the ReplicaSet's name."""

    create: Object | None = None
    scale: dict[str, int] = field(default_factory=dict)
    remove: list[Object] = field(default_factory=list)


def plan(deployment: Object, replicasets: list[Object], old_pods_running: bool) -> Rollout:
    """``replicasets`` are those of the deployment; their new sizes are not yet in their specs."""
    new, old = split(deployment, replicasets)
    spec = deployment["spec"]
    if was_scaled(deployment, replicasets):
        return Rollout(scale=_rescaled(deployment, new, old))
    if spec.get("paused"):
        return Rollout()
    if spec["strategy"]["type"] == "Recreate":
        return _recreated(deployment, new, old, old_pods_running)
    if new is None:
        return Rollout(create=replicaset_for(deployment, old, _new_size(deployment, 0, old)))
    scale = _rolled(deployment, new, old)
    return Rollout(scale=scale, remove=[] if scale else surplus_history(deployment, new, old))


def split(deployment: Object, replicasets: list[Object]) -> tuple[Object | None, list[Object]]:
    """The ReplicaSet of the present template, if there is one, and the others from the oldest."""
    ordered = sorted(
        replicasets, key=lambda rs: (rs["metadata"]["creationTimestamp"], rs["metadata"]["name"])
    )
    wanted = _bare(deployment["spec"]["template"])
    new = next((rs for rs in ordered if _bare(rs["spec"]["template"]) == wanted), None)
    return new, [rs for rs in ordered if rs is not new]


def bounds(deployment: Object) -> tuple[int, int]:
    """(fewest Pods available, most Pods in all) while rolling."""
    spec = deployment["spec"]
    size = spec.get("replicas", 1)
    if spec["strategy"]["type"] == "Recreate":
        return 0, size
    rolling = spec["strategy"]["rollingUpdate"]
    surge = share_of(rolling["maxSurge"], size, round_up=True)
    missing = share_of(rolling["maxUnavailable"], size, round_up=False)
    if surge == 0 and missing == 0:
        missing = 1  # percentages of few replicas may both come out as none, and nothing could move
    return size - min(missing, size), size + surge


def replicaset_for(deployment: Object, old: list[Object], size: int) -> Object:
    """The ReplicaSet of the present template, to be created."""
    spec, metadata = deployment["spec"], deployment["metadata"]
    template = copy.deepcopy(spec["template"])
    mark = {HASH_LABEL: template_hash(spec["template"])}
    template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), **mark}
    selector = copy.deepcopy(spec["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), **mark}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name']}-{mark[HASH_LABEL]}",
            "namespace": metadata["namespace"],
            "labels": template["metadata"]["labels"],
            "annotations": annotations_for(deployment, None, old),
            "ownerReferences": [controller_reference(DEPLOYMENTS, deployment)],
        },
        "spec": {
            "replicas": size,
            "minReadySeconds": spec.get("minReadySeconds", 0),
            "selector": selector,
            "template": template,
        },
    }


def annotations_for(deployment: Object, new: Object | None, old: list[Object]) -> dict[str, str]:
    """The new ReplicaSet's: those of the deployment, and a revision above that of every other."""
    annotations = dict((new or {"metadata": {}})["metadata"].get("annotations") or {})
    copied = (deployment["metadata"].get("annotations") or {}).items()
    before, highest = annotations.get(REVISION), max(map(revision, old), default=0)
    annotations |= {key: value for key, value in copied if key not in NOT_COPIED}
    if before is None or int(before) <= highest:
        annotations[REVISION] = str(highest + 1)
    if before is not None and annotations[REVISION] != before:
        history = [annotations.get(REVISION_HISTORY), before]
        annotations[REVISION_HISTORY] = ",".join(filter(None, history))
    return annotations | size_annotations(deployment)


def size_annotations(deployment: Object) -> dict[str, str]:
    """What tells later that the deployment was scaled since."""
    return {DESIRED: str(deployment["spec"].get("replicas", 1)), MAXIMUM: str(bounds(deployment)[1])}


def revision(replicaset: Object) -> int:
    return int((replicaset["metadata"].get("annotations") or {}).get(REVISION, 0))


def was_scaled(deployment: Object, replicasets: list[Object]) -> bool:
    """Whether a ReplicaSet in use was last sized for another number of replicas."""
    size = str(deployment["spec"].get("replicas", 1))
    marks = (
        (rs["metadata"].get("annotations") or {}).get(DESIRED, size) for rs in replicasets if size_of(rs)
    )
    return any(mark != size for mark in marks)


def surplus_history(deployment: Object, new: Object, old: list[Object]) -> list[Object]:
    """Old ReplicaSets beyond revisionHistoryLimit, once nothing is left to roll."""
    if not is_complete(deployment, new, old):
        return []
    empty = [rs for rs in old if size_of(rs) == 0 and rs.get("status", {}).get("replicas", 0) == 0]
    surplus = len(empty) - deployment["spec"].get("revisionHistoryLimit", 10)
    return sorted(empty, key=revision)[: max(0, surplus)]


def is_complete(deployment: Object, new: Object | None, old: list[Object]) -> bool:
    size = deployment["spec"].get("replicas", 1)
    left = sum(rs.get("status", {}).get("replicas", 0) for rs in old)
    return new is not None and left == 0 and size_of(new) == size and _available(new) >= size


def _rolled(deployment: Object, new: Object, old: list[Object]) -> dict[str, int]:
    size = _new_size(deployment, size_of(new), old)
    if size != size_of(new):
        return {new["metadata"]["name"]: size}
    at_least, _ = bounds(deployment)
    total = sum(map(size_of, [new, *old]))
    may_go = total - at_least - (size_of(new) - _available(new))
    sizes = {rs["metadata"]["name"]: size_of(rs) for rs in old}
    for rs in old:  # first what does not serve anyway, from the oldest
        gone = max(0, min(may_go, size_of(rs) - _available(rs)))
        sizes[rs["metadata"]["name"]] -= gone
        may_go -= gone
    spare = sum(map(_available, [new, *old])) - at_least
    for rs in old:
        gone = max(0, min(may_go, spare, sizes[rs["metadata"]["name"]]))
        sizes[rs["metadata"]["name"]] -= gone
        may_go, spare = may_go - gone, spare - gone
    present = {rs["metadata"]["name"]: size_of(rs) for rs in old}
    return {name: size for name, size in sizes.items() if size != present[name]}


def _new_size(deployment: Object, present: int, old: list[Object]) -> int:
    """How large the new ReplicaSet may be now."""
    size: int = deployment["spec"].get("replicas", 1)
    # Pods that their ReplicaSet has yet to delete count as well.
    others: int = sum(max(size_of(rs), rs.get("status", {}).get("replicas", 0)) for rs in old)
    room = bounds(deployment)[1] - present - others
    return min(size, present + max(0, room))


def _recreated(deployment: Object, new: Object | None, old: list[Object], old_pods_running: bool) -> Rollout:
    if any(map(size_of, old)):
        return Rollout(scale={rs["metadata"]["name"]: 0 for rs in old if size_of(rs)})
    if old_pods_running:
        return Rollout()
    size = deployment["spec"].get("replicas", 1)
    if new is None:
        return Rollout(create=replicaset_for(deployment, old, size))
    scale = {new["metadata"]["name"]: size} if size_of(new) != size else {}
    return Rollout(scale=scale, remove=[] if scale else surplus_history(deployment, new, old))


def _rescaled(deployment: Object, new: Object | None, old: list[Object]) -> dict[str, int]:
    """Every ReplicaSet in use gets its share, so that no rollout that hangs is left alone with the load."""
    used = [rs for rs in [*([new] if new else []), *old] if size_of(rs)]
    size = deployment["spec"].get("replicas", 1)
    if len(used) == 1 or size == 0:
        return {rs["metadata"]["name"]: size for rs in used}
    target, total = bounds(deployment)[1], sum(map(size_of, used))
    sizes = {rs["metadata"]["name"]: math.floor(size_of(rs) * target / total) for rs in used}
    largest = max(used, key=size_of)["metadata"]["name"]
    sizes[largest] += target - sum(sizes.values())
    return sizes


def _bare(template: Object) -> Object:
    metadata = template.get("metadata", {})
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL}
    return {**template, "metadata": {**metadata, "labels": labels}}


def size_of(replicaset: Object) -> int:
    return int(replicaset["spec"].get("replicas", 1))


def _available(replicaset: Object) -> int:
    return int(replicaset.get("status", {}).get("availableReplicas", 0))
