"""EndpointSlices and Endpoints of the real API server, whose Pods and Services are written by the test.

There are no kubelets here: what a Pod's status says is what the test has written there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from inspect import signature
from secrets import token_hex
from typing import Any

import pytest
import pytest_asyncio
from apiserver_process import ApiServer

from tulle.cli.apiserver import apiserver
from tulle.errors import ApiUnreachable, Conflict
from tulle.kube.client import Client
from tulle.kube.config import load_kubeconfig
from tulle.kube.informer import Informer
from tulle.kube.resources import (
    ENDPOINTS,
    ENDPOINTSLICES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    Resource,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

Object = dict[str, Any]

PATIENCE = 15.0
ZONES = {"node-a": "east", "node-b": "west"}
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
MIRRORER = "endpointslicemirroring-controller.k8s.io"

HAS_CIDRS = "service_cidr" in signature(apiserver).parameters
FLAGS = ["--service-cidr=10.96.0.0/16,fd00:10:96::/112"] if HAS_CIDRS else []


class World:
    """The API server, and what its watches show of all slices and Endpoints."""

    def __init__(self, server: ApiServer, client: Client) -> None:
        self.server, self.client = server, client
        self.slices, self.endpoints = Informer(client, ENDPOINTSLICES), Informer(client, ENDPOINTS)
        self._news = asyncio.Event()
        for informer in (self.slices, self.endpoints):
            informer.subscribe(lambda _: self._news.set())

    async def until(self, wanted: Callable[[], object]) -> None:
        """Looks after every change; what is never so is shown beside what is."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not wanted():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            there = [*self.slices.objects.values(), *self.endpoints.objects.values()]
            pytest.fail(f"it never became what was wanted; there are {json.dumps(there, indent=1)}")


class Space:
    """A namespace of one test. Pods have the label ``app=web``, which the Service ``web`` selects."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.client, self.name = world, world.client, name

    async def service(self, name: str = "web", **spec: Any) -> Object:
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        whole = {"selector": {"app": "web"}, "ports": ports, **spec}
        head = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"team": "a"}}}
        return await self.client.create(SERVICES, {**head, "spec": whole}, self.name)

    async def change(self, resource: Resource[Object], name: str, **patch: Any) -> Object:
        return await self.client.patch(resource, name, patch, self.name)

    async def pod(self, name: str, *ips: str, node: str = "node-a", app: str = "web", **spec: Any) -> None:
        """Runs and is ready at once."""
        whole = {"nodeName": node, "containers": [{"name": "c", "image": "none"}], **spec}
        head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}}}
        await self.client.create(PODS, {**head, "spec": whole}, self.name)
        addresses = {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
        await self._status(name, phase="Running", conditions=[ready(True)], **addresses)

    async def set_ready(self, name: str, value: bool) -> None:
        await self._status(name, conditions=[ready(value)])

    async def _status(self, name: str, **status: Any) -> None:
        await self.client.patch(PODS, name, {"status": status}, self.name, "status")

    async def delete(self, resource: Resource[Object], name: str, grace: int | None = None) -> None:
        await self.client.delete(resource, name, self.name, grace_period_seconds=grace)

    async def custom(self, *ips: str, name: str = "web", port: int = 80) -> Object:
        """Endpoints as somebody makes them."""
        subset = {"addresses": [{"ip": ip} for ip in ips], "ports": [{"port": port}]}
        head = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name}}
        return await self.client.create(ENDPOINTS, {**head, "subsets": [subset]}, self.name)

    def slices(self, service: str = "web", manager: str = CONTROLLER) -> list[Object]:
        """In order of families, then of their sizes."""
        wanted = {"kubernetes.io/service-name": service, MANAGED_BY: manager}.items()
        there = [each for key, each in self.world.slices.objects.items() if key[0] == self.name]
        found = [each for each in there if wanted <= each["metadata"]["labels"].items()]
        return sorted(found, key=lambda each: (each["addressType"], -len(each["endpoints"])))

    def conditions(self, service: str = "web", manager: str = CONTROLLER) -> dict[str, str]:
        """By address, the conditions that are true."""
        return {
            endpoint["addresses"][0]: " ".join(
                key for key in ("ready", "serving", "terminating") if endpoint["conditions"].get(key)
            )
            for each in self.slices(service, manager)
            for endpoint in each["endpoints"]
        }

    def addresses(self, service: str = "web") -> tuple[list[str], list[str]] | None:
        """Of the Endpoints: those that are ready, and those that are not; None without the object."""
        found = self.world.endpoints.objects.get((self.name, service))
        if found is None:
            return None
        lists: tuple[list[str], list[str]] = ([], [])
        for subset in found.get("subsets") or []:
            for key, into in zip(("addresses", "notReadyAddresses"), lists, strict=True):
                into += [each["ip"] for each in subset.get(key, [])]
        return lists

    async def until_slices_say(self, conditions: dict[str, str], **which: str) -> None:
        """Also that there is a slice: one without endpoints is not the same as none."""
        await self.world.until(lambda: self.slices(**which) and self.conditions(**which) == conditions)

    async def until_endpoints_say(self, *lists: list[str]) -> None:
        await self.world.until(lambda: self.addresses() == (lists or None))

    async def until_no_slices(self, **which: str) -> None:
        await self.world.until(lambda: not self.slices(**which))


def ready(value: bool) -> Object:
    times = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {"type": "Ready", "status": "True" if value else "False", **times}


def is_later(there: Object, before: Object) -> bool:
    return int(there["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])


def versions(slices: list[Object]) -> dict[str, str]:
    return {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in slices}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    server = ApiServer(tmp_path_factory.mktemp("apiserver"))
    async with AsyncExitStack() as stack:
        stack.callback(server.close)
        server.start(*FLAGS)
        client = await stack.enter_async_context(Client(load_kubeconfig(server.kubeconfig)))
        for name, zone in ZONES.items():
            metadata = {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}
            await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": metadata})
        made = World(server, client)
        tasks = [asyncio.create_task(each.run()) for each in (made.slices, made.endpoints)]
        await asyncio.gather(made.slices.synced.wait(), made.endpoints.synced.wait())
        yield made
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest_asyncio.fixture(loop_scope="module")
async def space(world: World) -> Space:
    name = f"t-{token_hex(4)}"
    await world.client.create(
        NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    return Space(world, name)


async def test_endpoints_follow_the_number_of_pods(space: Space) -> None:
    made = await space.service()
    await space.until_slices_say({})
    await space.until_endpoints_say([], [])
    for number in (1, 2, 3):
        await space.pod(f"p{number}", f"10.0.0.{number}", node="node-b" if number == 3 else "node-a")
    await space.until_slices_say({f"10.0.0.{number}": "ready serving" for number in (1, 2, 3)})
    [slice_] = space.slices()
    assert slice_["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert slice_["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert slice_["metadata"]["labels"]["team"] == "a"
    assert "endpoints.kubernetes.io/last-change-trigger-time" in slice_["metadata"]["annotations"]
    assert {each["nodeName"]: each["zone"] for each in slice_["endpoints"]} == ZONES
    await space.until_endpoints_say(["10.0.0.1", "10.0.0.2", "10.0.0.3"], [])
    for number in (1, 3):
        await space.delete(PODS, f"p{number}", grace=0)
    await space.until_slices_say({"10.0.0.2": "ready serving"})
    await space.until_endpoints_say(["10.0.0.2"], [])


async def test_endpoints_follow_readiness(space: Space) -> None:
    await space.service()
    await space.pod("p1", "10.0.0.1")
    await space.until_slices_say({"10.0.0.1": "ready serving"})
    for _ in range(3):
        await space.set_ready("p1", False)
        await space.until_slices_say({"10.0.0.1": ""})
        await space.until_endpoints_say([], ["10.0.0.1"])
        await space.set_ready("p1", True)
        await space.until_slices_say({"10.0.0.1": "ready serving"})
        await space.until_endpoints_say(["10.0.0.1"], [])
    await space.set_ready("p1", False)
    await space.change(SERVICES, "web", spec={"publishNotReadyAddresses": True})
    await space.until_slices_say({"10.0.0.1": "ready"})


async def test_a_terminating_pod_is_an_endpoint_until_it_is_gone(space: Space) -> None:
    await space.service()
    await space.pod("p1", "10.0.0.1", terminationGracePeriodSeconds=600)
    await space.until_slices_say({"10.0.0.1": "ready serving"})
    await space.delete(PODS, "p1")
    await space.until_slices_say({"10.0.0.1": "serving terminating"})
    await space.until_endpoints_say([], [])
    await space.set_ready("p1", False)
    await space.until_slices_say({"10.0.0.1": "terminating"})
    await space.delete(PODS, "p1", grace=0)
    await space.until_slices_say({})


async def test_endpoints_follow_the_selector(space: Space) -> None:
    await space.service()
    await space.pod("p1", "10.0.0.1")
    await space.pod("p2", "10.0.0.2", app="db")
    await space.until_slices_say({"10.0.0.1": "ready serving"})
    await space.change(SERVICES, "web", spec={"selector": {"app": "db"}})
    await space.until_slices_say({"10.0.0.2": "ready serving"})
    await space.until_endpoints_say(["10.0.0.2"], [])
    await space.change(PODS, "p1", metadata={"labels": {"app": "db"}})
    await space.until_slices_say({"10.0.0.1": "ready serving", "10.0.0.2": "ready serving"})
    await space.change(SERVICES, "web", spec={"selector": None})
    await space.until_no_slices()
    await space.until_endpoints_say()
    assert space.slices(manager=MIRRORER) == []


async def test_many_endpoints_are_in_several_slices(space: Space) -> None:
    await space.service()
    names = {f"p{number}": f"10.0.1.{number}" for number in range(1, 121)}
    for name, ip in names.items():
        await space.pod(name, ip)
    await space.until_slices_say(dict.fromkeys(names.values(), "ready serving"))
    before = space.slices()
    assert len(before) == 2
    assert len(before[0]["endpoints"]) <= 100
    await space.delete(PODS, "p7", grace=0)
    await space.world.until(lambda: "10.0.1.7" not in space.conditions())
    changed = versions(space.slices()).items() - versions(before).items()
    assert len(changed) == 1, "one endpoint is one slice"
    await space.pod("p121", "10.0.1.121")
    await space.world.until(lambda: "10.0.1.121" in space.conditions())
    assert versions(space.slices()).keys() == versions(before).keys(), "it is put where there is room"


@pytest.mark.parametrize("more", [{}, {"clusterIP": "None"}], ids=["with an address", "headless"])
async def test_each_family_has_its_slices(space: Space, more: Object) -> None:
    await space.service(ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv4", "IPv6"], **more)
    await space.pod("p1", "10.0.0.1", "fd00::1")
    await space.pod("p2", "10.0.0.2")
    both = {"10.0.0.1": "ready serving", "10.0.0.2": "ready serving", "fd00::1": "ready serving"}
    await space.until_slices_say(both)
    found = space.slices()
    assert [(each["addressType"], len(each["endpoints"])) for each in found] == [("IPv4", 2), ("IPv6", 1)]
    labelled = ["service.kubernetes.io/headless" in each["metadata"]["labels"] for each in found]
    assert labelled == [bool(more)] * 2
    await space.until_endpoints_say(["10.0.0.1", "10.0.0.2"], [])
    await space.delete(PODS, "p1", grace=0)
    await space.until_slices_say({"10.0.0.2": "ready serving"})
    assert [(each["addressType"], each["ports"] == []) for each in space.slices()] == [
        ("IPv4", False),
        ("IPv6", True),
    ]


async def test_a_named_port_is_looked_up_in_each_pod(space: Space) -> None:
    """S-08, N-25"""
    await space.service(ports=[{"port": 80, "targetPort": "web"}])
    listening = [{"name": "c", "image": "none", "ports": [{"name": "web", "containerPort": 8000}]}]
    beside = [{"name": "s", "image": "none", "restartPolicy": "Always"}]
    beside[0] |= {"ports": [{"name": "web", "containerPort": 9000}]}
    await space.pod("p1", "10.0.0.1", containers=listening)
    await space.pod("p2", "10.0.0.2", initContainers=beside)
    await space.until_slices_say({"10.0.0.1": "ready serving", "10.0.0.2": "ready serving"})
    found = {each["endpoints"][0]["addresses"][0]: each["ports"][0]["port"] for each in space.slices()}
    assert found == {"10.0.0.1": 8000, "10.0.0.2": 9000}


async def test_hints_follow_traffic_distribution(space: Space) -> None:
    await space.service(trafficDistribution="PreferSameNode")
    await space.pod("p1", "10.0.0.1", node="node-b")
    await space.until_slices_say({"10.0.0.1": "ready serving"})
    zones = {"forZones": [{"name": "west"}]}
    assert space.slices()[0]["endpoints"][0]["hints"] == {**zones, "forNodes": [{"name": "node-b"}]}

    def hints() -> object:
        return space.slices()[0]["endpoints"][0].get("hints")

    await space.change(SERVICES, "web", spec={"trafficDistribution": "PreferSameZone"})
    await space.world.until(lambda: hints() == zones)
    await space.change(SERVICES, "web", spec={"trafficDistribution": None})
    await space.world.until(lambda: hints() is None)


async def test_endpoints_go_with_their_service(space: Space) -> None:
    await space.service()
    await space.pod("p1", "10.0.0.1")
    await space.until_slices_say({"10.0.0.1": "ready serving"})
    await space.until_endpoints_say(["10.0.0.1"], [])
    await space.delete(SERVICES, "web")
    await space.until_no_slices()
    await space.until_endpoints_say()


async def test_what_somebody_changes_is_put_right(space: Space) -> None:
    await space.service()
    await space.pod("p1", "10.0.0.1")
    await space.until_slices_say({"10.0.0.1": "ready serving"})
    await space.until_endpoints_say(["10.0.0.1"], [])
    name = space.slices()[0]["metadata"]["name"]
    wrong = await space.change(ENDPOINTSLICES, name, endpoints=[])
    await space.world.until(lambda: is_later(space.slices()[0], wrong))
    await space.until_slices_say({"10.0.0.1": "ready serving"})
    await space.delete(ENDPOINTSLICES, name)
    await space.world.until(lambda: space.slices() and space.slices()[0]["metadata"]["name"] != name)
    await space.until_slices_say({"10.0.0.1": "ready serving"})
    key = (space.name, "web")
    deleted = space.world.endpoints.objects[key]
    await space.delete(ENDPOINTS, "web")
    await space.world.until(lambda: is_later(space.world.endpoints.objects.get(key, deleted), deleted))
    await space.until_endpoints_say(["10.0.0.1"], [])


async def test_endpoints_that_somebody_made_are_mirrored(space: Space) -> None:
    await space.service(selector=None)
    await space.custom("192.0.2.1", "2001:db8::1")
    mirror = {"manager": MIRRORER}
    await space.until_slices_say({"192.0.2.1": "ready", "2001:db8::1": "ready"}, **mirror)
    found = space.slices(**mirror)
    assert [(each["addressType"], each["ports"][0]["port"]) for each in found] == [("IPv4", 80), ("IPv6", 80)]
    subset = {"notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": [{"port": 81}]}
    await space.change(ENDPOINTS, "web", subsets=[subset])
    await space.until_slices_say({"192.0.2.2": ""}, **mirror)
    assert space.slices(**mirror)[0]["metadata"]["name"] == found[0]["metadata"]["name"]
    skip = "endpointslice.kubernetes.io/skip-mirror"
    await space.change(ENDPOINTS, "web", metadata={"labels": {skip: "true"}})
    await space.until_no_slices(**mirror)
    await space.change(ENDPOINTS, "web", metadata={"labels": {skip: None}})
    await space.until_slices_say({"192.0.2.2": ""}, **mirror)
    await space.delete(ENDPOINTS, "web")
    await space.until_no_slices(**mirror)


async def test_a_mirror_goes_when_the_service_gets_a_selector(space: Space) -> None:
    await space.service(selector=None)
    await space.custom("192.0.2.1")
    await space.until_slices_say({"192.0.2.1": "ready"}, manager=MIRRORER)
    await space.pod("p1", "10.0.0.1")
    await space.change(SERVICES, "web", spec={"selector": {"app": "web"}})
    await space.until_slices_say({"10.0.0.1": "ready serving"})
    await space.until_no_slices(manager=MIRRORER)
    await space.until_endpoints_say(["10.0.0.1"], [])


async def test_endpoints_that_somebody_made_wait_for_their_service_and_go_with_it(space: Space) -> None:
    await space.custom("192.0.2.1")
    await space.until_endpoints_say(["192.0.2.1"], [])
    await space.service(selector=None)
    await space.until_slices_say({"192.0.2.1": "ready"}, manager=MIRRORER)
    await space.delete(SERVICES, "web")
    await space.until_endpoints_say()
    await space.until_no_slices(manager=MIRRORER)


async def test_the_service_of_the_api_server_is_left_alone(space: Space) -> None:
    """Whoever makes its Endpoints; ``after`` shows that the controllers have passed it."""
    default = Space(space.world, "default")
    with suppress(Conflict):
        await default.service("kubernetes", selector=None)
    with suppress(Conflict):
        await default.custom("192.0.2.1", name="kubernetes")
    await default.service("after", selector=None)
    await default.custom("192.0.2.2", name="after")
    await default.until_slices_say({"192.0.2.2": "ready"}, service="after", manager=MIRRORER)
    for manager in (CONTROLLER, MIRRORER):
        assert default.slices("kubernetes", manager) == []
    assert default.addresses("kubernetes") is not None
    await default.delete(SERVICES, "after")
    await default.until_no_slices(service="after", manager=MIRRORER)


async def test_a_namespace_goes_with_the_services_in_it(space: Space) -> None:
    await space.service()
    await space.until_slices_say({})
    await space.until_endpoints_say([], [])
    await space.client.delete(NAMESPACES, space.name)
    await space.until_no_slices()
    await space.until_endpoints_say()


async def test_nothing_is_rewritten_after_a_kill(space: Space) -> None:
    await space.service()
    await space.pod("p1", "10.0.0.1")
    await space.until_slices_say({"10.0.0.1": "ready serving"})
    await space.until_endpoints_say(["10.0.0.1"], [])
    before = versions([*space.slices(), space.world.endpoints.objects[space.name, "web"]])
    space.world.server.kill()
    space.world.server.start(*FLAGS)
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(ApiUnreachable):
                await space.service("zzz")
                break
    await space.until_slices_say({"10.0.0.1": "ready serving"}, service="zzz")
    after = versions([*space.slices(), space.world.endpoints.objects[space.name, "web"]])
    assert before == after
    await space.set_ready("p1", False)
    await space.until_slices_say({"10.0.0.1": ""})
    assert versions(space.slices()).keys() < before.keys()
