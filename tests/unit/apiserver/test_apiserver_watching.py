"""What a watch sends: changes as its selection sees them, bookmarks that promise no more than was sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tulle.apiserver import selectors, watching
from tulle.apiserver.registry import Registry
from tulle.apiserver.store import Event, Store
from tulle.apiserver.views import View
from tulle.apiserver.watching import Filter, Watches

KIND = Registry().get("", "configmaps")


def config_map(name: str, namespace: str = "ns", **labels: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "uid": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "db")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": "1"}, {"a": "1"}, "MODIFIED"),
        ({"a": "1"}, {}, "DELETED"),
        ({}, {"a": "1"}, "ADDED"),
        ({}, {}, None),
    ],
)
async def test_a_selection_is_entered_and_left(
    store: Store, before: dict[str, str], after: dict[str, str], expected: str | None
) -> None:
    seen = Filter(KIND, View(), "", selectors.labels("a=1"))
    events: list[Event] = []
    store.put(KIND.stored, config_map("x", **before))
    store.flush()
    store.listen(KIND.stored, events.append)
    store.put(KIND.stored, config_map("x", **after))
    store.flush()
    line = seen.line(events[0])
    assert (json.loads(line)["type"] if line else None) == expected
    store.close()


async def test_other_namespaces_are_not_seen(store: Store) -> None:
    events: list[Event] = []
    store.listen(KIND.stored, events.append)
    store.put(KIND.stored, config_map("x", "other"))
    store.flush()
    assert Filter(KIND, View(), "ns", None).line(events[0]) == b""
    assert Filter(KIND, View(), "other", None).line(events[0]) is events[0].frame
    store.close()


class Response:
    """Keeps the lines; ends the watches after the first bookmark."""

    def __init__(self, watches: Watches) -> None:
        self.lines: list[dict[str, Any]] = []
        self._watches = watches

    async def write(self, data: bytes) -> None:
        self.lines += [json.loads(line) for line in data.splitlines()]
        if self.lines[-1]["type"] == "BOOKMARK":
            self._watches.stop()


async def test_a_bookmark_comes_after_what_it_covers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "BOOKMARK_SECONDS", 0.01)
    watches, wake = Watches(store), asyncio.Event()
    response, queue = Response(watches), watching.deque[Event]()
    # The listener does not wake the watch: the change is found when the bookmark is due.
    store.listen(KIND.stored, queue.append)
    store.put(KIND.stored, config_map("x"))
    seen = Filter(KIND, View(), "", None)
    await watches._stream(response, seen, queue, wake, 60, True)  # type: ignore[arg-type]
    assert [line["type"] for line in response.lines] == ["ADDED", "BOOKMARK"]
    versions = [line["object"]["metadata"]["resourceVersion"] for line in response.lines]
    assert versions == ["1", "1"]
    store.close()


async def test_too_old_is_an_error_event(tmp_path: Path) -> None:
    store = Store(tmp_path / "small", history=1)
    for number in range(3):
        store.put(KIND.stored, config_map(f"n{number}"))
        store.flush()
    head = Watches(store)._initial(Filter(KIND, View(), "", None), {"resourceVersion": "1"})
    event = json.loads(head)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    store.close()
