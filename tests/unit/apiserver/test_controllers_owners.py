"""The garbage collector, nodes and the framework under them, without an API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from controller_objects import NOW, Object, metadata, node, pod, ready

from tulle.apiserver.controllers.garbage import Standing, Verdict, judge, without_finalizer, without_owners
from tulle.apiserver.controllers.inventory import Metadata, Reference, custom_resource
from tulle.apiserver.controllers.nodes import conditions_of_silent, taints_of
from tulle.apiserver.controllers.words import event_about
from tulle.apiserver.controllers.work import Mirror, in_parallel
from tulle.apiserver.patch import json_patch
from tulle.errors import Conflict
from tulle.kube.cache import Change
from tulle.kube.queue import Queue

THERE, LEAVING, GONE = Standing.THERE, Standing.LEAVING, Standing.GONE


@pytest.mark.parametrize(
    ("standings", "has_dependents", "finalizers", "verdict"),
    [
        ({}, True, (), Verdict()),
        ({"a": THERE}, False, (), Verdict()),
        ({"a": THERE, "b": GONE, "c": LEAVING}, False, (), Verdict(forget=frozenset("bc"))),
        ({"a": GONE}, True, (), Verdict("Background")),
        ({"a": GONE, "b": LEAVING}, True, (), Verdict("Foreground")),
        ({"a": LEAVING}, False, (), Verdict("Background")),
        ({"a": GONE}, False, ("orphan",), Verdict("Orphan")),
        ({"a": GONE}, False, ("foregroundDeletion",), Verdict("Foreground")),
    ],
)
def test_dependents_go_with_their_last_owner(
    standings: dict[str, Standing], has_dependents: bool, finalizers: tuple[str, ...], verdict: Verdict
) -> None:
    assert judge(Metadata("x", "u", finalizers=finalizers), standings, has_dependents) == verdict


def test_patches_remove_just_what_they_name() -> None:
    owners = [{"apiVersion": "v1", "kind": "K", "name": uid, "uid": uid} for uid in "abc"]
    references = tuple(Reference("v1", "K", uid, uid) for uid in "abc")
    known = Metadata("x", "u", owner_references=references, finalizers=("one", "orphan"))
    document: Any = {"metadata": {"ownerReferences": list(owners), "finalizers": ["one", "orphan"]}}
    document = json_patch(document, without_owners(known, frozenset("ac")))
    document = json_patch(document, without_finalizer(known, "orphan"))
    assert document == {"metadata": {"ownerReferences": owners[1:2], "finalizers": ["one"]}}


def test_custom_resources_are_followed_once_they_are_served() -> None:
    names = {"plural": "widgets", "kind": "Widget"}
    versions = [{"name": "v1alpha1", "served": False}, {"name": "v1", "served": True}]
    definition: Object = {"spec": {"group": "g.io", "scope": "Cluster", "names": names, "versions": versions}}
    assert custom_resource(definition) is None
    definition["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
    resource = custom_resource(definition)
    assert resource is not None
    assert resource.path() == "/apis/g.io/v1/widgets"


@pytest.mark.parametrize(
    ("before", "status", "after"),
    [
        ([], "True", []),
        ([], "False", ["node.kubernetes.io/not-ready"]),
        ([], "Unknown", ["node.kubernetes.io/unreachable"]),
        (["node.kubernetes.io/not-ready", "mine"], "True", ["mine"]),
        (["node.kubernetes.io/not-ready", "mine"], "Unknown", ["mine", "node.kubernetes.io/unreachable"]),
        (["node.kubernetes.io/not-ready"], "False", ["node.kubernetes.io/not-ready"]),
        (["node.kubernetes.io/not-ready"], None, ["node.kubernetes.io/not-ready"]),
    ],
)
def test_taints_follow_readiness(before: list[str], status: str | None, after: list[str]) -> None:
    found = node("n", taints=[{"key": key, "effect": "NoSchedule"} for key in before])
    assert [taint["key"] for taint in taints_of(found, status)] == after


def test_of_a_silent_node_nothing_is_known() -> None:
    pressure = {"type": "DiskPressure", "status": "Unknown", "lastTransitionTime": "before"}
    found = conditions_of_silent(node("n", status={"conditions": [*ready(), pressure]}), NOW)
    assert [(each["status"], each["lastTransitionTime"]) for each in found] == [
        ("Unknown", "2026-05-01T12:00:00Z"),
        ("Unknown", "before"),
    ]
    assert [each["type"] for each in conditions_of_silent(node("n"), NOW)] == ["Ready"]


def test_events_of_cluster_wide_objects_stand_in_default() -> None:
    about = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u"}}
    event = event_about(about, "me", "Normal", "Why", "what", NOW)
    assert event["metadata"]["namespace"] == "default"
    assert event["involvedObject"]["namespace"] == ""


class FakeInformer:
    """The half of an informer that a mirror listens to."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.callback: Any = None

    def subscribe(self, callback: Any) -> None:
        self.callback = callback

    def tell(self, name: str, new: Object | None) -> None:
        key = ("default", name)
        old = self.objects.pop(key, None)
        if new is not None:
            self.objects[key] = new
        kind = "deleted" if new is None else "modified" if old else "added"
        self.callback(Change(kind, key, old, new))


def versioned(name: str, version: int, uid: str = "u", **more: Any) -> Object:
    made = pod(name)
    made["metadata"] = metadata(name, uid=uid, resourceVersion=str(version), **more)
    return made


def test_a_mirror_shows_our_writes_before_the_watch_does() -> None:
    informer = FakeInformer()
    mirror = Mirror(informer)  # type: ignore[arg-type]
    informer.tell("a", versioned("a", 1))
    mirror.wrote(versioned("b", 5, uid="v"))
    assert sorted(obj["metadata"]["name"] for obj in mirror.in_namespace("default")) == ["a", "b"]
    mirror.wrote(versioned("a", 6))
    assert (mirror.get(("default", "a")) or {})["metadata"]["resourceVersion"] == "6"
    informer.tell("a", versioned("a", 7))
    assert (mirror.get(("default", "a")) or {})["metadata"]["resourceVersion"] == "7"
    assert mirror.get(("default", "b")) is None, "the watch went past it, so it is gone again"
    mirror.wrote(versioned("c", 6))
    assert mirror.get(("default", "c")) is None


def test_a_mirror_hides_what_we_deleted() -> None:
    informer = FakeInformer()
    mirror = Mirror(informer)  # type: ignore[arg-type]
    first = versioned("a", 1)
    informer.tell("a", first)
    mirror.deleted(first)
    assert list(mirror) == []
    informer.tell("a", versioned("a", 2, deletionTimestamp="now"))
    assert len(list(mirror)) == 1
    informer.tell("a", None)
    informer.tell("a", versioned("a", 4, uid="other"))
    assert len(list(mirror)) == 1


async def test_a_queue_coalesces_and_never_overlaps() -> None:
    queue: Queue[str] = Queue("test")
    seen: list[str] = []
    started, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(key: str) -> None:
        seen.append(key)
        started.set()
        await go_on.wait()
        if len(seen) == 3:
            done.set()

    for _ in range(5):
        queue.add("a")
    task = asyncio.create_task(queue.run(work))
    await started.wait()
    queue.add("a")
    queue.add("a")
    queue.add_after("b", 60)
    queue.add_after("b", 0)
    go_on.set()
    await done.wait()
    assert sorted(seen) == ["a", "a", "b"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_queue_tries_again_what_failed() -> None:
    queue: Queue[str] = Queue("test")
    attempts: list[str] = []
    done = asyncio.Event()

    async def work(key: str) -> None:
        attempts.append(key)
        if len(attempts) < 3:
            raise Conflict(409, "Conflict", "stale") if len(attempts) == 1 else KeyError("broken object")
        done.set()

    queue.add("a")
    task = asyncio.create_task(queue.run(work))
    await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_writes_in_parallel_all_run_and_the_first_failure_is_told() -> None:
    ran: list[int] = []

    async def write(number: int) -> None:
        ran.append(number)
        if number in (1, 2):
            raise Conflict(409, "Conflict", f"number {number}")

    with pytest.raises(Conflict, match="number 1"):
        await in_parallel((write(number) for number in range(4)), limit=2)
    assert sorted(ran) == [0, 1, 2, 3]
