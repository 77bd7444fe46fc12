"""EndpointSlices and Endpoints of the real API server, whose Pods and Services are written by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from secrets import token_hex

import pytest
import pytest_asyncio
from apiserver_process import ApiServer
from endpoints_world import (
    CONTROLLER,
    FLAGS,
    MIRRORER,
    PATIENCE,
    ZONES,
    Object,
    Space,
    World,
    is_later,
    versions,
)

from tulle.errors import ApiUnreachable, Conflict
from tulle.kube.client import Client
from tulle.kube.config import load_kubeconfig
from tulle.kube.resources import (
    ENDPOINTS,
    ENDPOINTSLICES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
