"""Writes by Kubernetes' rules, and whatever is written: an object, or an error that says why not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.effort import effort

from tulle.apiserver.kinds import Kind
from tulle.apiserver.registry import Registry
from tulle.apiserver.service_allocation import SERVICES, ServiceKeeper
from tulle.apiserver.store import Store
from tulle.apiserver.types import structure
from tulle.apiserver.writing import Options, Writer
from tulle.errors import ApiError

PLAIN = Options()


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    writer = begin(tmp_path)
    yield writer
    writer.objects.close()


def begin(folder: Path) -> Writer:
    store = Store(folder / "db")
    writer = Writer(store, Registry(), {SERVICES: ServiceKeeper(store)})
    writer.create(writer.registry.get("", "namespaces"), "", {"metadata": {"name": "ns"}}, PLAIN)
    cidrs = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}}
    writer.create(writer.registry.get("networking.k8s.io", "servicecidrs"), "", cidrs, PLAIN)
    return writer


def kind(writer: Writer, plural: str, group: str = "") -> Kind:
    return writer.registry.get(group, plural)


def pod(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", **metadata}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}


async def test_a_new_object_gets_what_the_server_gives(writer: Writer) -> None:
    given = pod(uid="mine", resourceVersion="7", deletionTimestamp="2020-01-01T00:00:00Z")
    outcome = writer.create(kind(writer, "pods"), "ns", given | {"status": {"phase": "Running"}}, PLAIN)
    obj, meta = outcome.record.obj, outcome.record.obj["metadata"]
    assert outcome.created and obj["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert meta["uid"] != "mine" and meta["namespace"] == "ns" and meta["generation"] == 1
    assert "deletionTimestamp" not in meta and meta["resourceVersion"] == str(outcome.record.version)
    assert obj["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"


async def test_generated_names_differ(writer: Writer) -> None:
    given = [{"metadata": {"generateName": "x-"}} for _ in range(20)]
    made = [writer.create(kind(writer, "configmaps"), "ns", each, PLAIN).record.obj for each in given]
    names = {each["metadata"]["name"] for each in made}
    assert len(names) == 20 and all(name.startswith("x-") and len(name) == 7 for name in names)


async def test_generation_counts_changes_of_the_intent(writer: Writer) -> None:
    pods = kind(writer, "pods")
    writer.create(pods, "ns", pod(), PLAIN)

    def change(part: str, patch: dict[str, Any]) -> int:
        how = "application/merge-patch+json"
        return int(
            writer.patch(pods, "ns", "p", how, patch, PLAIN, part).record.obj["metadata"]["generation"]
        )

    assert change("status", {"status": {"phase": "Running"}, "spec": {"nodeName": "x"}}) == 1
    assert change("", {"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Failed"}}) == 1
    assert change("", {"spec": {"terminationGracePeriodSeconds": 1}}) == 2
    found = writer.existing(pods, "ns", "p").obj
    assert found["status"]["phase"] == "Running" and "nodeName" not in found["spec"]


async def test_nothing_changed_is_no_new_version(writer: Writer) -> None:
    maps = kind(writer, "configmaps")
    first = writer.create(maps, "ns", {"metadata": {"name": "c"}, "data": {"a": "b"}}, PLAIN).record
    again = writer.update(maps, "ns", "c", {"metadata": {}, "data": {"a": "b"}}, PLAIN).record
    assert again.version == first.version == writer.objects.version


async def test_dry_run_leaves_nothing(writer: Writer) -> None:
    version = writer.objects.version
    assert writer.create(kind(writer, "pods"), "ns", pod(), Options(dry_run=True)).record.obj["spec"]
    assert writer.objects.version == version


async def test_stale_and_other_objects_are_conflicts(writer: Writer) -> None:
    maps = kind(writer, "configmaps")
    record = writer.create(maps, "ns", {"metadata": {"name": "c"}}, PLAIN).record
    for meta in ({"resourceVersion": "1"}, {"uid": "other"}):
        with pytest.raises(ApiError, match="Operation cannot be fulfilled on configmaps") as caught:
            writer.update(maps, "ns", "c", {"metadata": meta}, PLAIN)
        assert (caught.value.code, caught.value.reason) == (409, "Conflict")
    with pytest.raises(ApiError, match="Precondition failed: UID"):
        writer.delete(maps, "ns", "c", {"preconditions": {"uid": "other"}}, PLAIN)
    assert writer.delete(
        maps, "ns", "c", {"preconditions": {"uid": record.obj["metadata"]["uid"]}}, PLAIN
    ).gone


async def test_propagation_leaves_word_for_the_collector(writer: Writer) -> None:
    maps = kind(writer, "configmaps")
    for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
        writer.create(maps, "ns", {"metadata": {"name": "c"}}, PLAIN)
        outcome = writer.delete(maps, "ns", "c", {"propagationPolicy": policy}, PLAIN)
        assert not outcome.gone and outcome.record.obj["metadata"]["finalizers"] == [finalizer]
        assert writer.delete(maps, "ns", "c", {"propagationPolicy": "Background"}, PLAIN).gone


async def test_a_namespace_goes_when_it_is_finalized(writer: Writer) -> None:
    spaces = kind(writer, "namespaces")
    ending = writer.delete(spaces, "", "ns", {}, PLAIN)
    assert not ending.gone and ending.record.obj["status"]["phase"] == "Terminating"
    with pytest.raises(ApiError, match="because it is being terminated") as caught:
        writer.create(kind(writer, "pods"), "ns", pod(), PLAIN)
    assert caught.value.code == 403
    assert writer.update(spaces, "", "ns", {"spec": {"finalizers": []}}, PLAIN, "finalize").gone


async def test_a_grace_period_may_only_be_shortened(writer: Writer) -> None:
    pods, given = kind(writer, "pods"), pod()
    given["spec"]["nodeName"] = "n"
    writer.create(pods, "ns", given, PLAIN)
    graces = [
        writer.delete(pods, "ns", "p", {"gracePeriodSeconds": seconds}, PLAIN).record.obj["metadata"][
            "deletionGracePeriodSeconds"
        ]
        for seconds in (None, 60, 5)
    ]
    assert graces == [30, 30, 5]
    assert writer.delete(pods, "ns", "p", {"gracePeriodSeconds": 0}, PLAIN).gone


async def test_both_versions_of_events_are_the_same_objects(writer: Writer) -> None:
    core, new = kind(writer, "events"), kind(writer, "events", "events.k8s.io")
    regarding = {"kind": "Pod", "name": "p", "namespace": "ns"}
    writer.create(new, "ns", {"metadata": {"name": "e"}, "regarding": regarding, "note": "said"}, PLAIN)
    stored = writer.existing(core, "ns", "e").obj
    assert (stored["apiVersion"], stored["message"]) == ("v1", "said")
    assert new.present is not None and new.present(stored)["regarding"] == regarding
    with pytest.raises(ApiError, match=r"involvedObject\.namespace"):
        writer.create(core, "ns", {"metadata": {"name": "f"}, "involvedObject": {"name": "p"}}, PLAIN)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 70000)
    | st.sampled_from(["", "a", "A b", "10.0.0.0/8", "::/0"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "key", "a/b"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@st.composite
def objects(draw: st.DrawFn, schema: dict[str, Any]) -> Any:
    """Mostly what a schema asks for, sometimes anything."""
    if draw(st.integers(0, 19)) == 0:
        return draw(VALUES)
    properties, required = schema.get("properties", {}), set(schema.get("required", ()))
    if properties:
        chosen = [key for key in properties if key in required or draw(st.integers(0, 3)) == 0]
        return {key: draw(objects(properties[key])) for key in chosen}
    if "items" in schema:
        return draw(st.lists(objects(schema["items"]), min_size=schema.get("minItems", 0), max_size=2))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    by_type = {
        "integer": st.integers(0, 99),
        "boolean": st.booleans(),
        "string": st.sampled_from(["a", "b", "::1"]),
    }
    return draw(by_type.get(schema.get("type", "string"), VALUES))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def shared(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    async def make() -> Writer:
        return begin(tmp_path_factory.mktemp("store"))

    writer = runner.run(make())
    yield writer
    writer.objects.close()


@effort(0.6)
@given(data=st.data())
def test_any_body_is_an_object_or_an_error_that_says_why(
    runner: asyncio.Runner, shared: Writer, data: st.DataObject
) -> None:
    runner.run(attempt(shared, data))


async def attempt(writer: Writer, data: st.DataObject) -> None:
    chosen = writer.registry.get(*data.draw(st.sampled_from([(k.group, k.plural) for k in Registry()])))
    body = data.draw(objects(structure(chosen.kind) if chosen.accept is None else dict(chosen.schema)))
    meta = data.draw(objects(structure("ObjectMeta")) | st.just({}))
    named = {"name": f"x{writer.objects.version}"} | (meta if isinstance(meta, dict) else {})
    named.pop("namespace", None)
    given = {"metadata": named} | (body if isinstance(body, dict) else {"spec": body})
    namespace = "ns" if chosen.namespaced else ""
    try:
        made = writer.create(chosen, namespace, json.loads(json.dumps(given)), PLAIN)
        writer.delete(chosen, namespace, made.record.obj["metadata"]["name"], {}, PLAIN)
    except ApiError as error:
        assert error.code in (400, 404, 409, 422) and str(error)
