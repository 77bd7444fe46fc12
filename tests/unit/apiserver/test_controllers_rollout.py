"""Deployments on the pure core: whatever the order of events, a rollout keeps its bounds, and ends."""

from __future__ import annotations

import copy
import random
from datetime import timedelta
from typing import Any

import pytest
from controller_objects import NOW, Object, workload
from hypothesis import given
from hypothesis import strategies as st
from tests.effort import effort

from tulle.apiserver.controllers.objects import condition
from tulle.apiserver.controllers.rollout import (
    HASH_LABEL,
    REVISION,
    REVISION_HISTORY,
    annotations_for,
    bounds,
    is_complete,
    plan,
    size_annotations,
    split,
)
from tulle.apiserver.controllers.rollout_status import seconds_to_deadline, status


def deployment(
    replicas: int = 4, surge: int | str = "25%", missing: int | str = "25%", **spec: Any
) -> Object:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": missing}}
    return workload("Deployment", **{"replicas": replicas, "strategy": rolling, **spec})


class World:
    """A deployment, its ReplicaSets, and of each the number of (ready, unready) Pods that really exist."""

    def __init__(self, deployment: Object) -> None:
        self.deployment = deployment
        self.sets: list[Object] = []
        self.pods: dict[str, list[int]] = {}

    def set_image(self, image: str) -> None:
        template = copy.deepcopy(self.deployment["spec"]["template"])
        template["spec"]["containers"][0]["image"] = image
        self.deployment["spec"]["template"] = template

    def deploy(self) -> None:
        """What the controller does with a plan."""
        _, old = split(self.deployment, self.sets)
        wanted = plan(self.deployment, self.sets, any(sum(self.pods[rs["metadata"]["name"]]) for rs in old))
        if wanted.create:
            created = copy.deepcopy(wanted.create)
            created["metadata"] |= {
                "uid": created["metadata"]["name"],
                "creationTimestamp": f"{len(self.sets):04}",
            }
            self.sets.append(created)
            self.pods[created["metadata"]["name"]] = [0, 0]
        for rs in self.sets:
            if (size := wanted.scale.get(rs["metadata"]["name"])) is not None:
                rs["spec"]["replicas"] = size
                rs["metadata"]["annotations"] |= size_annotations(self.deployment)
        self.sets = [rs for rs in self.sets if rs not in wanted.remove]
        new, old = split(self.deployment, self.sets)
        if new:
            new["metadata"]["annotations"] |= annotations_for(self.deployment, new, old)

    def replicate(self, rs: Object) -> None:
        """What the ReplicaSet controller does."""
        there = self.pods[rs["metadata"]["name"]]
        size = rs["spec"]["replicas"]
        there[1] += max(0, size - sum(there))
        while sum(there) > size:
            there[1 if there[1] else 0] -= 1
        rs["status"] = {"replicas": sum(there), "readyReplicas": there[0], "availableReplicas": there[0]}

    def become_ready(self, rs: Object) -> None:
        there = self.pods[rs["metadata"]["name"]]
        if there[1]:
            there[0], there[1] = there[0] + 1, there[1] - 1

    def step(self, choice: random.Random) -> None:
        acts = [self.deploy] + [lambda rs=rs: self.replicate(rs) for rs in self.sets]
        acts += [lambda rs=rs: self.become_ready(rs) for rs in self.sets]
        choice.choice(acts)()

    def settle(self) -> None:
        for _ in range(200):
            self.deploy()
            for rs in self.sets:
                self.become_ready(rs)
                self.replicate(rs)
            new, old = split(self.deployment, self.sets)
            if is_complete(self.deployment, new, old):
                return
        pytest.fail(f"the rollout hangs: {self.pods}")

    @property
    def available(self) -> int:
        return sum(there[0] for there in self.pods.values())

    @property
    def total(self) -> int:
        return sum(map(sum, self.pods.values()))


limits = st.one_of(st.integers(0, 4), st.sampled_from(["0%", "10%", "25%", "50%", "100%"]))


@given(replicas=st.integers(1, 12), surge=limits, missing=limits, seed=st.integers(0, 2**32))
def test_a_rollout_keeps_its_bounds_and_ends(
    replicas: int, surge: int | str, missing: int | str, seed: int
) -> None:
    world = World(deployment(replicas, surge, missing))
    world.settle()
    at_least, at_most = bounds(world.deployment)
    choice = random.Random(seed)
    for image in ("i:2", "i:3", "i:1"):
        world.set_image(image)
        for _ in range(choice.randrange(40)):
            world.step(choice)
            assert at_least <= world.available
            assert world.total <= at_most
    world.settle()
    new, _ = split(world.deployment, world.sets)
    assert new is not None
    assert (new["spec"]["replicas"], world.total) == (replicas, replicas)


@effort(0.5)
@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_scaling_in_the_middle_of_a_rollout_ends_at_the_last_size(sizes: list[int], seed: int) -> None:
    world = World(deployment(5))
    world.settle()
    choice = random.Random(seed)
    world.set_image("i:2")
    for size in sizes:
        world.deployment["spec"]["replicas"] = size
        for _ in range(choice.randrange(20)):
            world.step(choice)
    world.settle()
    assert world.total == sizes[-1]


def test_a_broken_image_takes_no_more_than_is_allowed() -> None:
    world = World(deployment(4, surge=1, missing=1))
    world.settle()
    world.set_image("broken")
    for _ in range(50):
        world.deploy()
        for rs in world.sets:
            world.replicate(rs)
    assert (world.available, world.total) == (3, 5)
    world.set_image("i:1")
    world.settle()
    assert world.total == 4


def test_recreate_starts_the_new_pods_when_the_old_ones_are_gone() -> None:
    world = World(deployment(3, strategy={"type": "Recreate"}))
    world.settle()
    world.set_image("i:2")
    world.deploy()
    first = world.sets[0]
    assert (first["spec"]["replicas"], len(world.sets)) == (0, 1)
    world.deploy()
    assert len(world.sets) == 1, "old Pods still run"
    world.replicate(first)
    world.deploy()
    assert [rs["spec"]["replicas"] for rs in world.sets] == [0, 3]


def test_revisions_follow_updates_and_roll_backs() -> None:
    world = World(deployment(1))
    world.deployment["metadata"]["annotations"] = {"kubernetes.io/change-cause": "first", REVISION: "7"}
    world.settle()
    world.set_image("i:2")
    world.settle()
    world.set_image("i:1")
    world.settle()
    marks = [rs["metadata"]["annotations"] for rs in world.sets]
    assert [mark[REVISION] for mark in marks] == ["3", "2"]
    assert marks[0][REVISION_HISTORY] == "1"
    assert marks[0]["kubernetes.io/change-cause"] == "first"
    labels = [rs["spec"]["template"]["metadata"]["labels"] for rs in world.sets]
    assert labels[0]["app"] == "web"
    assert labels[0][HASH_LABEL] != labels[1][HASH_LABEL]


def test_history_is_limited() -> None:
    world = World(deployment(1, revisionHistoryLimit=2))
    for number in range(6):
        world.set_image(f"i:{number}")
        world.settle()
        world.deploy()
    assert [rs["metadata"]["annotations"][REVISION] for rs in world.sets] == ["4", "5", "6"]


def test_a_paused_deployment_is_scaled_and_not_rolled() -> None:
    world = World(deployment(2))
    world.settle()
    world.deployment["spec"] |= {"paused": True, "replicas": 5}
    world.set_image("i:2")
    world.deploy()
    world.deploy()
    assert [rs["spec"]["replicas"] for rs in world.sets] == [5]


@pytest.mark.parametrize(
    ("replicas", "surge", "missing", "expected"),
    [
        (4, "25%", "25%", (3, 5)),
        (10, "25%", "25%", (8, 13)),
        (1, "25%", "25%", (1, 2)),
        (3, 0, "10%", (2, 3)),
        (3, 2, 5, (0, 5)),
        (0, "25%", "25%", (0, 0)),
    ],
)
def test_bounds(replicas: int, surge: int | str, missing: int | str, expected: tuple[int, int]) -> None:
    assert bounds(deployment(replicas, surge, missing)) == expected


def test_status_tells_of_progress_completion_and_its_lack() -> None:
    world = World(deployment(2, progressDeadlineSeconds=60))

    def report(seconds: float) -> tuple[str, str, str]:
        found = status(world.deployment, world.sets, NOW + timedelta(seconds=seconds))
        world.deployment["status"] = found
        progressing, available = (condition(world.deployment, kind) for kind in ("Progressing", "Available"))
        assert progressing is not None and available is not None
        return progressing["status"], progressing["reason"], available["status"]

    world.deploy()
    world.replicate(world.sets[0])
    assert report(0) == ("True", "ReplicaSetUpdated", "False")
    assert seconds_to_deadline(world.deployment, NOW + timedelta(seconds=10)) == 50
    assert report(59) == ("True", "ReplicaSetUpdated", "False")
    assert report(61) == ("False", "ProgressDeadlineExceeded", "False")
    world.become_ready(world.sets[0])
    world.replicate(world.sets[0])
    assert report(70) == ("True", "ReplicaSetUpdated", "False")
    world.settle()
    assert report(80) == ("True", "NewReplicaSetAvailable", "True")
    world.pods[world.sets[0]["metadata"]["name"]] = [0, 2]
    world.replicate(world.sets[0])
    assert report(1000) == ("True", "NewReplicaSetAvailable", "False")
    assert world.deployment["status"]["unavailableReplicas"] == 2
