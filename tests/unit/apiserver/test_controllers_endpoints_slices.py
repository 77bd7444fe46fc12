"""How endpoints are laid out in slices, and how few of those change."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from controller_objects import Object, owned_by, ready
from endpoint_objects import ZONES, addresses, applied, backend, service
from hypothesis import given
from hypothesis import strategies as st

from tulle.apiserver.controllers.endpointslice import plan, stamped
from tulle.apiserver.controllers.slices import Changes, Part, fit

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
UNREADY = {"conditions": ready("False")}
TWO = ("10.0.0.1", "fd00::1")


def of(owner: Object, *pods: Object, found: list[Object] | None = None, **more: Any) -> Changes:
    return plan(owner, list(pods), ZONES, found or [], **more)


def slices_of(owner: Object, *pods: Object) -> list[Object]:
    return of(owner, *pods).create


def port(target: int | str | None, name: str = "", protocol: str = "TCP", **more: Any) -> Object:
    target_port = {} if target is None else {"targetPort": target}
    return {"name": name, "port": 80, "protocol": protocol, **target_port, **more}


def many(number: int, start: int = 1) -> list[Object]:
    return [backend(f"p{i}", f"10.0.{i // 200}.{i % 200}") for i in range(start, start + number)]


def sizes(slices: list[Object]) -> list[int]:
    return sorted(len(each["endpoints"]) for each in slices)


def test_a_hundred_endpoints_fill_a_slice() -> None:
    assert sizes(slices_of(service(), *many(100))) == [100]
    assert sizes(slices_of(service(), *many(101))) == [1, 100]
    assert sizes(slices_of(service(), *many(250))) == [50, 100, 100]


def test_what_needs_no_change_is_left_alone() -> None:
    owner, pods = service(), many(150)
    found = applied([], of(owner, *pods))
    assert not of(owner, *pods, found=found)
    assert not of(owner, *reversed(pods), found=[stamped(each, "2026-05-01T12:00:00Z") for each in found])


def test_one_pod_changes_one_slice() -> None:
    owner, pods = service(), many(150)
    found = applied([], of(owner, *pods))
    pods[120] = {**pods[120], "status": {**pods[120]["status"], **UNREADY}}
    changes = of(owner, *pods, found=found)
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 1, 0)
    assert sizes(changes.update) == [50]
    assert changes.update[0]["endpoints"][20]["conditions"]["ready"] is False


@pytest.mark.parametrize(
    ("case", "gone", "more", "writes", "after"),
    [
        ("a new one goes where there is room", 0, 1, (0, 1, 0), [51, 100]),
        ("as many as fit into one slice", 0, 50, (0, 1, 0), [100, 100]),
        ("more than fit make a slice", 0, 51, (1, 0, 0), [50, 51, 100]),
        ("new ones take the places of old ones", 10, 10, (0, 1, 0), [50, 100]),
        ("they fill what changes first, then one that does not", 10, 20, (0, 2, 0), [60, 100]),
        ("a slice that is emptied is taken away", 100, 0, (0, 0, 1), [50]),
        ("or used again", 100, 60, (0, 1, 0), [50, 60]),
    ],
)
def test_changes_are_as_few_as_they_can_be(
    case: str, gone: int, more: int, writes: tuple[int, int, int], after: list[int]
) -> None:
    owner, pods = service(), many(150)
    found = applied([], of(owner, *pods))
    changes = of(owner, *pods[gone:], *many(more, start=200), found=found)
    assert (len(changes.create), len(changes.update), len(changes.delete)) == writes, case
    assert sizes(applied(found, changes)) == after, case


@pytest.mark.parametrize(
    ("case", "kept", "gone", "new", "after"),
    [
        ("the fullest with room for all", (6, 3, 8), 0, 3, [9, 3, 8]),
        ("the fullest of those that change", (6, 7), 1, 5, [6, 10]),
        ("none has room for all", (6, 7), 0, 5, [6, 7, 5]),
        ("whole slices first, the rest where there is room", (6,), 0, 12, [8, 10]),
    ],
)
def test_where_new_endpoints_go(
    case: str, kept: tuple[int, ...], gone: int, new: int, after: list[int]
) -> None:
    """Of slices for up to ten that hold ``kept``, each loses ``gone``."""
    names = count()
    found = [{"endpoints": [endpoint(next(names)) for _ in range(size)]} for size in kept]
    wanted = [each for slice_ in found for each in slice_["endpoints"][gone:]]
    wanted += [endpoint(next(names)) for _ in range(new)]
    placed = fit(Part([], wanted), found, 10)
    sizes = {id(there): len(endpoints) for there, endpoints in placed if there}
    made = [len(endpoints) for there, endpoints in placed if there is None]
    assert [sizes[id(each)] for each in found] + made == after, case


def endpoint(number: int) -> Object:
    return {"addresses": [f"10.0.0.{number}"]}


def test_a_slice_is_never_used_again_for_the_other_family() -> None:
    owner, pod = service(), backend("p1", *TWO)
    found = applied([], of(owner, pod))
    owner["spec"]["ipFamilies"] = ["IPv6"]
    changes = of(owner, pod, found=found)
    assert (len(changes.create), changes.update, changes.delete) == (1, [], found)


def test_the_placeholder_becomes_the_first_slice_and_the_last_one_a_placeholder() -> None:
    owner = service()
    found = applied([], of(owner))
    name = found[0]["metadata"]["name"]
    found = applied(found, of(owner, backend("p1"), found=found))
    assert [(each["metadata"]["name"], len(each["ports"])) for each in found] == [(name, 1)]
    found = applied(found, of(owner, found=found))
    assert [(each["metadata"]["name"], each["ports"], each["endpoints"]) for each in found] == [
        (name, [], [])
    ]
    assert not of(owner, found=found)


def test_a_new_port_changes_slices_in_place() -> None:
    owner, pods = service(), many(150)
    found = applied([], of(owner, *pods))
    owner["spec"]["ports"] = [port(9090, "http")]
    changes = of(owner, *pods, found=found)
    assert (len(changes.create), len(changes.update), len(changes.delete)) == (0, 2, 0)
    assert {each["ports"][0]["port"] for each in changes.update} == {9090}


def test_ports_in_another_order_are_no_change() -> None:
    owner, pod = service(ports=[port(1, "a"), port(2, "b")]), backend("p1")
    found = applied([], of(owner, pod))
    owner["spec"]["ports"].reverse()
    assert not of(owner, pod, found=found)


def test_labels_of_the_service_are_followed_and_annotations_of_the_slice_kept() -> None:
    owner, pod = service(labels={"team": "a"}), backend("p1")
    [made] = applied([], of(owner, pod))
    made["metadata"]["annotations"] = {"mine": "yes", TRIGGER_TIME: "2026-05-01T12:00:00Z"}
    owner["metadata"]["labels"] = {"team": "b"}
    [changed] = of(owner, pod, found=[made]).update
    assert changed["metadata"]["labels"]["team"] == "b"
    assert changed["metadata"]["annotations"] == {"mine": "yes"}
    assert stamped(changed, "now")["metadata"]["annotations"] == {"mine": "yes", TRIGGER_TIME: "now"}


def test_a_family_less_takes_its_slices_away() -> None:
    owner, pod = service(ipFamilies=["IPv4", "IPv6"]), backend("p1", *TWO)
    found = applied([], of(owner, pod))
    owner["spec"]["ipFamilies"] = ["IPv4"]
    changes = of(owner, pod, found=found)
    assert [each["addressType"] for each in changes.delete] == ["IPv6"]
    assert not changes.create
    assert not changes.update


def test_slices_of_an_earlier_service_with_the_name_are_replaced() -> None:
    owner, pod = service(), backend("p1")
    [made] = applied([], of(owner, pod))
    made["metadata"]["ownerReferences"] = owned_by(service(), "Service")
    changes = of(owner, pod, found=[made])
    assert (len(changes.create), changes.update, changes.delete) == (1, [], [made])


def test_a_service_that_is_being_deleted_gets_no_new_slices() -> None:
    owner = service(deletionTimestamp="2026-05-01T12:00:00Z")
    assert not of(owner, backend("p1"))


def test_an_endpoint_that_is_in_two_slices_is_taken_out_of_one() -> None:
    owner, pod = service(), backend("p1")
    [made] = applied([], of(owner, pod))
    twin = {**made, "metadata": {**made["metadata"], "name": "web-zzzzz"}}
    assert of(owner, pod, found=[twin, made]) == Changes(delete=[twin])


@given(st.lists(st.sets(st.integers(1, 12)), min_size=1, max_size=8), st.integers(1, 5))
def test_whatever_comes_and_goes_each_pod_is_in_one_slice_once(steps: list[set[int]], limit: int) -> None:
    """From any state one plan leads to the right slices, after which there is nothing to do."""
    owner, found = service(), []
    for numbers in steps:
        pods = [backend(f"p{number}") for number in sorted(numbers)]
        found = applied(found, of(owner, *pods, found=found, limit=limit))
        assert addresses(found) == sorted(f"10.0.0.{number}" for number in numbers)
        assert all(len(each["endpoints"]) <= limit for each in found)
        assert len(found) == 1 or all(each["endpoints"] for each in found)
        again = [{**pod, "metadata": {**pod["metadata"], "resourceVersion": "9"}} for pod in pods]
        assert not of(owner, *again, found=found, limit=limit)
