"""Deployments: carries out what `rollout` decides, and reports."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from tulle.apiserver.controllers.objects import (
    Object,
    controller_of,
    is_deleting,
    is_finished,
    key_of,
)
from tulle.apiserver.controllers.pods import Actions, Dependents, claim, owners_of
from tulle.apiserver.controllers.rollout import (
    REVISION,
    annotations_for,
    plan,
    size_annotations,
    size_of,
    split,
)
from tulle.apiserver.controllers.rollout_status import seconds_to_deadline, status
from tulle.apiserver.controllers.words import Recorder
from tulle.apiserver.controllers.work import Mirror, in_parallel, synced
from tulle.errors import Conflict
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.queue import Queue
from tulle.kube.resources import DEPLOYMENTS, REPLICASETS, Key


class Deployments:
    """Keeps each Deployment's ReplicaSets and status."""

    def __init__(
        self, client: Client, deployments: Mirror, replicasets: Mirror, pods: Mirror, recorder: Recorder
    ) -> None:
        self._client, self._recorder = client, recorder
        self._deployments, self._replicasets, self._pods = deployments, replicasets, pods
        self._queue: Queue[Key] = Queue("deployment")
        self._dependents = Dependents(client, replicasets, DEPLOYMENTS, REPLICASETS)
        deployments.informer.subscribe(lambda change: self._queue.add(change.key))
        replicasets.informer.subscribe(self._replicaset_changed)
        pods.informer.subscribe(self._pod_changed)

    def _replicaset_changed(self, change: Change[Object]) -> None:
        for key in owners_of(change, "Deployment", self._deployments):
            self._queue.add(key)

    def _pod_changed(self, change: Change[Object]) -> None:
        """Only the end of a Pod matters here: Recreate waits for it."""
        if change.new is not None and not is_finished(change.new):
            return
        owner = controller_of(change.old or {"metadata": {}})
        replicaset = self._replicasets.get((change.key[0], owner["name"])) if owner else None
        reference = controller_of(replicaset) if replicaset else None
        if reference is not None:
            self._queue.add((change.key[0], reference["name"]))

    async def run(self) -> None:
        """Never returns."""
        await synced(self._deployments, self._replicasets, self._pods)
        await self._queue.run(self._look_at)

    async def _look_at(self, key: Key) -> None:
        deployment = self._deployments.get(key)
        if deployment is None:
            return
        claimed = claim(deployment, self._replicasets.in_namespace(key[0]))
        await self._dependents.carry_out(deployment, Actions(adopt=claimed.adopt, release=claimed.release))
        if not is_deleting(deployment):
            await self._annotate(deployment, claimed.mine)
            await self._roll(deployment, claimed.mine)
        await self._report(deployment, claimed.mine)

    async def _roll(self, deployment: Object, replicasets: list[Object]) -> None:
        _, old = split(deployment, replicasets)
        wanted = plan(deployment, replicasets, self._any_pod_runs(old))
        if wanted.create is not None:
            await self._create(deployment, wanted.create)
        by_name = {rs["metadata"]["name"]: rs for rs in replicasets}
        await in_parallel(self._scale(deployment, by_name[name], size) for name, size in wanted.scale.items())
        await self._dependents.carry_out(deployment, Actions(delete=wanted.remove))

    def _any_pod_runs(self, replicasets: list[Object]) -> bool:
        owners = {rs["metadata"]["uid"] for rs in replicasets}
        pods = (pod for key, pod in self._pods.informer.objects.items() if not is_finished(pod))
        return bool(owners) and any((controller_of(pod) or {}).get("uid") in owners for pod in pods)

    async def _create(self, deployment: Object, replicaset: Object) -> None:
        try:
            await self._dependents.carry_out(deployment, Actions(create=[replicaset]))
        except Conflict:
            return  # it is there, and the watch will say so
        self._tell(deployment, replicaset, 0, size_of(replicaset))

    async def _scale(self, deployment: Object, replicaset: Object, size: int) -> None:
        namespace, name = key_of(replicaset)
        patch = {"metadata": {"annotations": size_annotations(deployment)}, "spec": {"replicas": size}}
        self._replicasets.wrote(await self._client.patch(REPLICASETS, name, patch, namespace))
        if size != size_of(replicaset):
            self._tell(deployment, replicaset, size_of(replicaset), size)

    def _tell(self, deployment: Object, replicaset: Object, before: int, after: int) -> None:
        way = "up" if after > before else "down"
        message = f"Scaled {way} replica set {replicaset['metadata']['name']} from {before} to {after}"
        self._recorder.record("deployment-controller", deployment, "Normal", "ScalingReplicaSet", message)

    async def _annotate(self, deployment: Object, replicasets: list[Object]) -> None:
        """The present ReplicaSet gets the newest revision, after a roll back too; the Deployment shows it."""
        new, old = split(deployment, replicasets)
        if new is None:
            return
        namespace, name = key_of(new)
        annotations = annotations_for(deployment, new, old)
        if annotations[REVISION] != new["metadata"]["annotations"].get(REVISION):
            patch = {"metadata": {"annotations": annotations}}
            self._replicasets.wrote(await self._client.patch(REPLICASETS, name, patch, namespace))
        shown = (deployment["metadata"].get("annotations") or {}).get(REVISION)
        if shown != annotations[REVISION]:
            patch = {"metadata": {"annotations": {REVISION: annotations[REVISION]}}}
            name = deployment["metadata"]["name"]
            self._deployments.wrote(await self._client.patch(DEPLOYMENTS, name, patch, namespace))

    async def _report(self, deployment: Object, replicasets: list[Object]) -> None:
        namespace, name = key_of(deployment)
        now = datetime.now(UTC)
        found = status(deployment, replicasets, now)
        if not found.items() <= deployment.get("status", {}).items():
            patch = {"status": found}
            deployment = await self._client.patch(DEPLOYMENTS, name, patch, namespace, subresource="status")
            self._deployments.wrote(deployment)
        if 0 < (wait := seconds_to_deadline(deployment, now)) < math.inf:
            self._queue.add_after((namespace, name), wait + 1)
