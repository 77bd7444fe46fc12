"""Which Services a change concerns, found without looking at all of them; and whose slices are whose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from controller_objects import Object, node, ready
from endpoint_objects import Watched, backend, service, terminating
from hypothesis import given
from hypothesis import strategies as st

from tulle.apiserver.controllers.labelled import Labelled, Selectors
from tulle.apiserver.controllers.members import Members
from tulle.apiserver.controllers.trigger_times import TriggerTimes
from tulle.kube.resources import Key

some_labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), max_size=3)
names = st.tuples(st.sampled_from(["one", "two"]), st.sampled_from("pqrst"))
steps = st.lists(st.tuples(names, st.none() | some_labels), max_size=20)
Steps = list[tuple[Key, dict[str, str] | None]]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


@given(steps, some_labels)
def test_labelled_finds_what_a_look_at_all_finds(changes: Steps, selector: dict[str, str]) -> None:
    index, known = Labelled(), dict[Key, dict[str, str]]()
    for key, labels in changes:
        if labels is None:
            index.remove(key)
            known.pop(key, None)
        else:
            index.put(key, labels)
            known[key] = labels
    there = sorted(key for key, labels in known.items() if key[0] == "one" and selects(selector, labels))
    assert index.selected("one", selector) == there


@given(steps, some_labels)
def test_selectors_finds_what_a_look_at_all_finds(changes: Steps, labels: dict[str, str]) -> None:
    index, known = Selectors(), dict[Key, dict[str, str]]()
    for key, selector in changes:
        if selector is None:
            index.remove(key)
            known.pop(key, None)
        else:
            index.put(key, selector)
            known[key] = selector
    there = sorted(key for key, selector in known.items() if key[0] == "one" and selects(selector, labels))
    assert sorted(index.selecting("one", labels)) == there


class Counted(dict[str, str]):
    """A selector that counts how often it is compared."""

    compared = 0

    def items(self) -> Any:
        Counted.compared += 1
        return super().items()


def test_a_pod_is_compared_with_the_services_that_share_its_rarest_label_only() -> None:
    index = Selectors()
    for number in range(5000):
        index.put(("default", f"s{number}"), Counted({"by": "helm", "name": f"a{number}"}))
    Counted.compared = 0
    labels = {"by": "helm", "name": "a7", "hash": "1"}
    assert list(index.selecting("default", labels)) == [("default", "s7")]
    assert Counted.compared < 5


class World:
    """Members over watches that a test speaks for; ``told`` is what they said since it was last asked."""

    def __init__(self) -> None:
        self.services, self.pods, self.nodes = Watched(), Watched(), Watched()
        self.members = Members(self.services.mirror(), self.pods.mirror(), self.nodes.mirror())
        self._told: list[str] = []
        self.members.subscribe(lambda key: self._told.append(key[1]))

    def told(self) -> list[str]:
        found, self._told[:] = sorted(self._told), []
        return found


@pytest.fixture
def world() -> World:
    """Three Services, of which ``web`` and ``all`` select a Pod ``p1``."""
    made = World()
    for each in (
        service("web"),
        service("all", selector={"tier": "x"}),
        service("db", selector={"app": "db"}),
    ):
        made.services.tell(each)
    made.pods.tell(backend("p1", labels={"app": "web", "tier": "x"}))
    made.told()
    return made


Change = Callable[[Object], Object]


def with_status(**status: Any) -> Change:
    return lambda pod: {**pod, "status": {**pod["status"], **status}}


def with_metadata(**metadata: Any) -> Change:
    return lambda pod: {**pod, "metadata": {**pod["metadata"], **metadata}}


@pytest.mark.parametrize(
    ("case", "change", "concerned"),
    [
        ("readiness", with_status(conditions=ready("False")), ["all", "web"]),
        ("termination", terminating, ["all", "web"]),
        ("an address", with_status(podIPs=[{"ip": "10.0.0.2"}]), ["all", "web"]),
        ("its end", with_status(phase="Failed"), ["all", "web"]),
        ("another Pod with the name", with_metadata(uid="other"), ["all", "web"]),
        ("a label that moves it", with_metadata(labels={"app": "db"}), ["all", "db", "web"]),
        ("a restart", with_status(containerStatuses=[{"restartCount": 1}]), []),
        ("an annotation", with_metadata(annotations={"a": "b"}), []),
        ("a heartbeat", with_status(conditions=ready(since="2026-05-01T11:30:00Z")), []),
    ],
)
def test_a_pod_concerns_the_services_that_select_or_selected_it(
    world: World, case: str, change: Change, concerned: list[str]
) -> None:
    world.pods.tell(change(world.pods.objects["default", "p1"]))
    assert world.told() == concerned, case


def test_a_pod_that_goes_concerns_its_services(world: World) -> None:
    world.pods.tell(world.pods.objects["default", "p1"], gone=True)
    assert world.told() == ["all", "web"]
    assert world.members.of(service("web")) == []


def test_a_service_has_the_pods_that_it_selects_now(world: World) -> None:
    web = service("web", selector={"app": "db"})
    world.services.tell(web)
    assert world.told() == ["web"]
    assert world.members.of(web) == []
    world.pods.tell(backend("p2", labels={"app": "db"}))
    assert world.told() == ["db", "web"]
    assert [pod["metadata"]["name"] for pod in world.members.of(web)] == ["p2"]
    world.services.tell(web, gone=True)
    assert world.told() == ["web"]


def test_an_external_name_selects_no_pods(world: World) -> None:
    world.services.tell(outside := service("web", type="ExternalName"))
    assert world.members.of(outside) == []
    world.told()
    world.pods.tell(terminating(world.pods.objects["default", "p1"]))
    assert world.told() == ["all"]


async def test_a_nodes_zone_concerns_the_services_of_its_pods(world: World) -> None:
    world.nodes.synced.set()
    world.nodes.tell(node("n1"))
    assert world.told() == ["all", "web"], "its Pods were on a node that did not exist"
    world.nodes.tell(node("n1", labels={"topology.kubernetes.io/zone": "east"}))
    assert world.told() == ["all", "web"]
    world.nodes.tell(node("n1", labels={"topology.kubernetes.io/zone": "east", "other": "x"}))
    world.nodes.tell(node("n2", labels={"topology.kubernetes.io/zone": "west"}))
    assert world.told() == []
    assert world.members.zones == {"n1": "east", "n2": "west"}
    world.nodes.tell(node("n1"), gone=True)
    assert world.told() == []
    assert world.members.zones == {"n2": "west"}


def test_trigger_times() -> None:
    """S-71: as Kubernetes tells them."""
    times, owner = TriggerTimes(), service()
    early = backend("p1", status={"conditions": ready(since="2026-05-01T11:30:00Z")})
    late = backend("p2", status={"conditions": ready(since="2026-05-01T11:40:00Z")})
    assert times.since(owner, [early]) == owner["metadata"]["creationTimestamp"]
    times.settle(owner, [early])
    assert times.since(owner, [early]) is None
    assert times.since(owner, [early, late]) == "2026-05-01T11:40:00Z"
    assert times.since(owner, []) is None
    times.settle(owner, [])
    assert times.since(owner, [late, early]) == "2026-05-01T11:30:00Z"
    times.forget(("default", "web"))
    assert times.since(owner, [early]) == owner["metadata"]["creationTimestamp"]
