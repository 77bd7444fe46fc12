"""The store: versions, order, what it remembers, and what it takes back."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from tests.effort import effort

from tulle.apiserver.store import Event, Expired, Store


def thing(name: str, namespace: str = "ns", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "uid": name}, **more}


def names(store: Store, namespace: str = "") -> list[str]:
    return [f"{key[0]}/{key[1]}" for key, _ in store.scan("/things", namespace)]


async def test_objects_and_log_survive(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.put("/things", thing("a"))
    store.put("/things", thing("a", value=1))
    store.put("/things", thing("b"))
    store.remove("/things", thing("b"))
    await store.committed()
    store.close()
    again = Store(tmp_path / "db")
    assert again.version == 4
    assert names(again) == ["ns/a"]
    assert [(e.type, e.record.version) for e in again.since("/things", 1)] == [
        ("MODIFIED", 2),
        ("ADDED", 3),
        ("DELETED", 4),
    ]
    assert again.since("/things", 1)[0].previous == thing("a") | {
        "metadata": {**thing("a")["metadata"], "resourceVersion": "1"}
    }
    again.close()


async def test_nothing_is_told_before_it_is_committed(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    heard: list[Event] = []
    end = store.listen("/things", heard.append)
    store.put("/things", thing("a"))
    assert heard == []
    await store.committed()
    assert [event.frame[:16] for event in heard] == [b'{"type":"ADDED",']
    end()
    store.put("/things", thing("b"))
    await store.committed()
    assert len(heard) == 1
    store.close()


async def test_what_cannot_be_written_is_taken_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.put("/things", thing("a", value=1))
    await store.committed()
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("CREATE TRIGGER full BEFORE INSERT ON log BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    store.put("/things", thing("a", value=2))
    store.put("/things", thing("b"))
    with pytest.raises(sqlite3.Error, match="disk full"):
        await store.committed()
    assert (store.version, names(store)) == (1, ["ns/a"])
    record = store.get("/things", "ns", "a")
    assert record is not None and record.obj["value"] == 1
    other.execute("DROP TRIGGER full")
    other.close()
    assert store.put("/things", thing("c")).version == 2
    await store.committed()
    store.close()


async def test_old_and_future_versions_are_expired(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", history=3)
    for number in range(6):
        store.put("/things", thing(f"n{number}"))
    await store.committed()
    assert [event.record.version for event in store.since("/things", 3)] == [4, 5, 6]
    for version in (2, 7):
        with pytest.raises(Expired, match=f"too old resource version: {version} "):
            store.since("/things", version)
    store.close()
    again = Store(tmp_path / "db", history=3)
    assert len(again.since("/things", 3)) == 3
    again.close()


async def test_many_writers_share_a_transaction(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")

    async def write(number: int) -> int:
        version = store.put("/things", thing(f"n{number}")).version
        await store.committed()
        return version

    assert sorted(await asyncio.gather(*map(write, range(50)))) == list(range(1, 51))
    store.close()


KEYS = st.tuples(st.sampled_from(["a", "b", "ab"]), st.sampled_from(["x", "y", "xy", "x-y"]))


@effort(0.4, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["put", "remove", "flush"]), KEYS), max_size=30))
def test_any_order_of_writes_is_a_dictionary(
    tmp_path: Path, steps: list[tuple[str, tuple[str, str]]]
) -> None:
    """The store, and the same after a restart, against a dictionary; a watch replays the way between."""

    async def run() -> None:
        path = tmp_path / "db"
        path.unlink(missing_ok=True)
        store, model, version = Store(path), dict[tuple[str, str], int](), 0
        for what, (namespace, name) in steps:
            if what == "flush":
                store.flush()
            elif what == "put":
                version += 1
                model[namespace, name] = version
                store.put("/things", thing(name, namespace))
            elif (namespace, name) in model:
                version += 1
                del model[namespace, name]
                store.remove("/things", thing(name, namespace))
        store.close()
        again = Store(path)
        for each in (store, again):
            assert {key: record.version for key, record in each.scan("/things")} == model
            assert names(each) == [f"{namespace}/{name}" for namespace, name in sorted(model)]
            assert names(each, "a") == [f"a/{name}" for namespace, name in sorted(model) if namespace == "a"]
        replayed: dict[tuple[str, str], int] = {}
        for event in again.since("/things", 0):
            meta = event.record.obj["metadata"]
            key = meta["namespace"], meta["name"]
            assert (event.type == "ADDED") is (key not in replayed)
            replayed[key] = event.record.version
            if event.type == "DELETED":
                del replayed[key]
        assert replayed == model
        again.close()

    asyncio.run(run())
