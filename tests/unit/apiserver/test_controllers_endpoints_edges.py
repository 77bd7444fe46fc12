"""What the controllers of endpoints write, and what they leave alone, without an API server."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from controller_objects import Object, metadata
from endpoint_objects import Api, Watched, applied, service

from tulle.apiserver.controllers import endpoints, mirroring
from tulle.apiserver.controllers.endpointslice import MANAGER, EndpointSlices, plan
from tulle.apiserver.controllers.members import Members
from tulle.apiserver.controllers.slice_store import SliceStore
from tulle.apiserver.controllers.slices import MANAGED_BY, SERVICE_NAME, Changes
from tulle.apiserver.controllers.words import Recorder
from tulle.kube.client import Client


def store_of(api: Api, watched: Watched) -> tuple[SliceStore, list[str]]:
    store, told = SliceStore(cast("Client", api), watched.mirror()), list[str]()
    store.subscribe(MANAGER, lambda key: told.append(key[1]))
    return store, told


WEB = ("default", "web")


async def test_a_slice_is_seen_by_our_own_write_before_the_watch_shows_it() -> None:
    api, watched = Api(), Watched()
    store, told = store_of(api, watched)
    await store.carry_out(plan(service(), [], {}, []))
    [made] = store.of(WEB, MANAGER)
    watched.tell(made)
    assert told == [], "our own write is no news"
    assert store.of(WEB, MANAGER) == [made]
    await store.carry_out(Changes(delete=[made]))
    assert store.of(WEB, MANAGER) == []


async def test_a_slice_that_somebody_changed_is_news() -> None:
    watched = Watched()
    _, told = store_of(Api(), watched)
    [made] = applied([], plan(service(), [], {}, []))
    watched.tell(made)
    watched.tell({**made, "endpoints": []})
    watched.tell(made, gone=True)
    assert told == ["web"] * 3


@pytest.mark.parametrize(
    ("label", "value", "told"),
    [(SERVICE_NAME, "other", ["other", "web"]), (MANAGED_BY, "somebody", ["web"])],
)
async def test_a_slice_that_changes_hands_is_news_to_both(label: str, value: str, told: list[str]) -> None:
    watched = Watched()
    store, heard = store_of(Api(), watched)
    [made] = applied([], plan(service(), [], {}, []))
    watched.tell(made)
    heard.clear()
    labels = {**made["metadata"]["labels"], label: value}
    watched.tell({**made, "metadata": {**made["metadata"], "labels": labels}})
    assert sorted(heard) == told
    assert store.of(WEB, MANAGER) == []


async def test_what_takes_a_place_is_there_before_what_had_it_goes() -> None:
    api = Api()
    store, _ = store_of(api, Watched())
    found = applied([], plan(service(), [], {}, []))
    await store.carry_out(Changes(create=plan(service(), [], {}, []).create, update=found, delete=found))
    assert [verb for verb, _ in api.calls] == ["create", "replace", "delete"]


async def test_a_namespace_that_is_being_terminated_gets_no_slices() -> None:
    store, _ = store_of(Api(refuses=True), Watched())
    await store.carry_out(plan(service(), [], {}, []))
    assert store.of(WEB, MANAGER) == []


class Controllers:
    """All three, over watches that a test speaks for."""

    def __init__(self) -> None:
        self.api = Api()
        self.services, self.pods, self.nodes = Watched(), Watched(), Watched()
        self.endpoints, self.slices = Watched(), Watched()
        client = cast("Client", self.api)
        services, kept = self.services.mirror(), self.endpoints.mirror()
        members = Members(services, self.pods.mirror(), self.nodes.mirror())
        store = SliceStore(client, self.slices.mirror())
        self._runners = (
            EndpointSlices(members, store),
            endpoints.EndpointsObjects(client, members, kept),
            mirroring.Mirroring(services, kept, store, Recorder(client)),
        )

    async def wrote(self, *last: str) -> list[tuple[str, str]]:
        """What was written until the ``last`` ones were, once the watches were complete."""
        for each in (self.services, self.pods, self.nodes, self.endpoints, self.slices):
            each.synced.set()
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.run()) for each in self._runners]
            while not set(last) <= {name for _, name in self.api.calls}:
                self.api.news.clear()
                await self.api.news.wait()
            for task in tasks:
                task.cancel()
        return sorted(self.api.calls)


def custom(name: str, **meta: Any) -> Object:
    subset = {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata(name, **meta), "subsets": [subset]}


LAST = service("zzz")
"""A Service that is looked at after all the others."""

LAST_WRITES = [("create", "zzz"), ("create", "zzz-abcde")]


async def test_the_service_of_the_api_server_is_left_alone() -> None:
    """Whatever it says; nor are its Endpoints mirrored, skip-mirror or not."""
    world = Controllers()
    world.services.tell(service("kubernetes", selector={}))
    world.endpoints.tell(custom("kubernetes"))
    world.services.tell(LAST)
    assert await world.wrote("zzz", "zzz-abcde") == LAST_WRITES


async def test_after_a_start_our_endpoints_without_a_service_go_and_those_of_others_stay() -> None:
    world = Controllers()
    world.endpoints.tell(custom("ours", labels={endpoints.MANAGED_BY: endpoints.MANAGER}))
    world.endpoints.tell(custom("theirs"))
    world.services.tell(LAST)
    assert await world.wrote("zzz", "zzz-abcde", "ours") == [*LAST_WRITES, ("delete", "ours")]


async def test_endpoints_of_others_go_with_a_service_that_goes() -> None:
    world = Controllers()
    world.services.tell(gone := service("web", selector={}))
    world.endpoints.tell(custom("web"))
    world.services.tell(gone, gone=True)
    assert await world.wrote("web") == [("delete", "web")]


async def test_a_service_that_comes_back_at_once_keeps_them() -> None:
    world = Controllers()
    world.services.tell(gone := service("web", selector={}))
    world.endpoints.tell(custom("web"))
    world.services.tell(gone, gone=True)
    world.services.tell(service("web", selector={}))
    assert await world.wrote("web-abcde") == [("create", "web-abcde")]


@pytest.mark.parametrize("spec", [{"selector": {}}, {"type": "ExternalName"}])
async def test_endpoints_of_pods_go_when_no_more_are_selected(spec: Object) -> None:
    """They are not mirrored on their way out."""
    world = Controllers()
    [made] = applied([], plan(service("web"), [], {}, []))
    world.slices.tell(made)
    world.endpoints.tell(custom("web", labels={endpoints.MANAGED_BY: endpoints.MANAGER}))
    world.services.tell(service("web", **spec))
    name = made["metadata"]["name"]
    assert await world.wrote("web", name) == [("delete", "web"), ("delete", name)]
