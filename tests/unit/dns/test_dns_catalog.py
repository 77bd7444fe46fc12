"""A change touches the names of one Service, and any history leads to the zone of its end (D-11, D-29)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from dns_cluster import answer, ask, catalog, endpoints, fill, namespace, service
from hypothesis import given
from hypothesis import strategies as st

from tulle.dns import wire
from tulle.dns.cluster.catalog import Catalog
from tulle.dns.cluster.following import Follower, seconds_since
from tulle.dns.cluster.service_records import Options
from tulle.dns.cluster.snapshot import Snapshot
from tulle.dns.cluster.zone import Zone
from tulle.kube.resources import Item, Resource
from tulle.kube.wire import ListResult, WatchEvent
from tulle.telemetry.metrics import Histogram, Registry

NAMES = ("a", "b")
SERVICES = [
    lambda path: service(path, "10.96.0.5", ports=("http:TCP:80",)),
    lambda path: service(path, "10.96.0.6", "fd00::6"),
    lambda path: service(path, "None"),
    lambda path: service(path, external="www.example.com"),
    lambda path: service(path),
    lambda path: None,
]
SLICES = [
    lambda path: endpoints(path, "10.244.1.1", "10.244.1.2", ports=("p:TCP:1",)),
    lambda path: endpoints(path, "10.244.1.2"),
    lambda path: endpoints(path, {"addresses": ["10.244.1.3"], "hostname": "h", "conditions": {}}),
    lambda path: None,
]
STEPS = st.lists(
    st.tuples(st.sampled_from(["service", "slice", "namespace"]), st.sampled_from(NAMES), st.integers(0, 5)),
    max_size=30,
)


def inside(zone: Zone) -> object:
    """All that a zone knows, but for the serial number."""
    records = {kind: held for kind, held in zone._records.items() if held}
    return records, {name: sorted(each) for name, each in zone._reverse.items()}, zone._parents


@given(STEPS)
def test_any_history_leads_to_the_zone_of_its_end(steps: list[tuple[str, str, int]]) -> None:
    made = Catalog(Zone(Options()))
    end: dict[tuple[str, str], Any] = {}
    for kind, name, choice in steps:
        path = f"default/{name}"
        if kind == "service":
            value: Any = SERVICES[choice](path)
            made.set_service(("default", name), value)
        elif kind == "slice":
            value = SLICES[choice % len(SLICES)](path)
            made.set_slice((True, "default", f"{name}-1"), value)
        else:
            value = namespace(name) if choice % 2 else None
            made.set_namespace(("", name), value)
        end[kind, name] = value
    fresh = Catalog(Zone(Options()))
    fill(fresh, *(value for value in end.values() if value))
    assert inside(made.zone) == inside(fresh.zone)


def test_a_headless_service_that_is_gone_leaves_nothing() -> None:
    made = catalog()
    before = inside(made.zone)
    made.set_slice((True, "default", "db-1"), endpoints("default/db", "10.244.1.1", ports=("p:TCP:1",)))
    made.set_service(("default", "db"), service("default/db", "None"))
    assert inside(made.zone) != before
    made.set_service(("default", "db"), None)
    assert inside(made.zone) == before


def test_d09_a_service_changes_its_type_and_its_target() -> None:
    made = catalog(service("default/x", external="one.example"))
    name = "x.default.svc.cluster.local"
    made.set_service(("default", "x"), service("default/x", external="two.example"))
    message = ask(made.zone, name, "CNAME")
    assert isinstance(message, bytes) and answer(message)[1] == ["CNAME two.example."]
    made.set_service(("default", "x"), service("default/x", "10.96.0.8"))
    message = ask(made.zone, name, "A")
    assert isinstance(message, bytes) and answer(message)[1] == ["A 10.96.0.8"]
    message = ask(made.zone, name, "CNAME")
    assert isinstance(message, bytes) and answer(message)[1] == []


def test_other_options_are_for_all_that_is_known() -> None:
    made = catalog(service("default/x", "10.96.0.8"))
    made.rebuild(Zone(Options(ttl=7)))
    message = ask(made.zone, "x.default.svc.cluster.local", "A")
    assert isinstance(message, bytes) and message[-10:-6] == (7).to_bytes(4)


async def test_d28_a_snapshot_holds_all_and_half_a_one_counts_for_nothing(tmp_path: Path) -> None:
    made = catalog(
        *(service(f"default/s{n}", f"10.96.1.{n}", ports=("http:TCP:80",)) for n in range(250)),
        service("default/db", "None"),
        endpoints("default/db", "10.244.1.1", ports=("p:TCP:1",)),
        service("default/out", external="www.example.com"),
    )
    snapshot = Snapshot(tmp_path)
    assert snapshot.read() == []
    await snapshot.write(made)
    again = catalog()
    fill(again, *snapshot.read())
    assert inside(again.zone) == inside(made.zone)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-2])
    assert snapshot.read() == []
    path.write_bytes(b"x{}\n.\n")
    assert snapshot.read() == []


class Api:
    """Lists once, then gives the watch what the test puts in."""

    def __init__(self, *objects: Any) -> None:
        self._objects = objects
        self.events: asyncio.Queue[Any] = asyncio.Queue()

    async def list(self, resource: Resource[Any], *_: Any, **__: Any) -> ListResult[Any]:
        selector = _[1] if len(_) > 1 else None
        fitting = [each for each in self._objects if isinstance(each, resource.type)]
        if selector and selector.startswith("!"):
            fitting = []
        return ListResult("1", [Item(_key(each), "1", each) for each in fitting])

    async def watch(
        self, resource: Resource[Any], resource_version: str, **given: Any
    ) -> AsyncGenerator[WatchEvent[Any], None]:
        while True:
            event = await self.events.get()
            if isinstance(event, resource.type) and not str(given.get("label_selector")).startswith("!"):
                yield WatchEvent("MODIFIED", Item(_key(event), "2", event))
            else:
                self.events.put_nowait(event)
                await asyncio.sleep(0)


def _key(each: Any) -> tuple[str, str]:
    return each.metadata.namespace, each.metadata.name


async def test_what_the_api_no_longer_lists_is_gone_and_the_rest_follows(tmp_path: Path) -> None:
    old = catalog(
        service("default/old", "10.96.0.1"), service("default/kept", "10.96.0.2"), namespace("gone")
    )
    snapshot = Snapshot(tmp_path)
    await snapshot.write(old)
    api = Api(service("default/kept", "10.96.0.3"), namespace("default"), service("default/db", "None"))
    made = Catalog(Zone(Options()))
    programming = Histogram(Registry(), "x", "x", ("service_kind",))
    follower = Follower(api, made, snapshot, programming)
    follower.load()
    assert follower.ready.is_set(), "answers come from the snapshot"
    assert _a(made, "old") == ["A 10.96.0.1"]
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        follower.start(tasks)
        await turns(lambda: not _a(made, "old") and _a(made, "kept") == ["A 10.96.0.3"])
        message = ask(made.zone, "gone.svc.cluster.local", "A")
        assert isinstance(message, bytes) and answer(message)[0] == wire.NXDOMAIN
        api.events.put_nowait(endpoints("default/db", "10.244.1.9"))
        await turns(lambda: _a(made, "db") == ["A 10.244.1.9"])
        for task in list(tasks._tasks):
            task.cancel()


async def turns(condition: Callable[[], bool]) -> None:
    """Lets the tasks run until the condition holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never held")


def _a(made: Catalog, name: str) -> list[str]:
    message = ask(made.zone, f"{name}.default.svc.cluster.local", "A")
    assert isinstance(message, bytes)
    return answer(message)[1]


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01T00:00:00"])
def test_times_that_are_none_are_not_measured(text: str) -> None:
    assert seconds_since(text) is None


def test_times_are_measured() -> None:
    seconds = seconds_since("2026-01-01T00:00:00Z")
    assert seconds is not None and seconds > 0
