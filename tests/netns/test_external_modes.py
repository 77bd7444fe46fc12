"""What holds for each ``externalTraffic``, beside what ``test_external_datapath`` has of the default one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from nodes import Node
from test_external_datapath import PORT, VIPS, Scene, made, say

from tulle.lab.spec import Spec
from tulle.model.address import to_bytes
from tulle.pod_to_service.plan import Backend

pytestmark = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])
MODES = "handover", "dsr", "snat"
_, DIRECT, MASQUERADED = MODES


@pytest.fixture
def scene(shared: Callable[..., list[Node]], family: int, mode: str) -> Iterator[Scene]:
    yield from made(shared(Spec(nodes=2), f"--external-traffic={mode}"), family)


@pytest.mark.parametrize("mode", [DIRECT, MASQUERADED])
@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_large_packets(scene: Scene, how: str, mode: str) -> None:
    scene.apply(scene.plan(scene.serve(scene.far, "far", how), protocol=how))
    for size in (1400, 1472, 9000):
        [answer] = scene.ask(how, size=size)
        assert answer.get("size") == size, (size, answer)


@pytest.mark.parametrize("mode", MODES)
def test_refusals_and_closed_ports_come_back(scene: Scene, mode: str) -> None:
    """S-40, S-68: without an endpoint, and by an endpoint that does not listen (RST, ICMP)."""
    for how in ("tcp", "udp"):
        scene.apply(scene.plan(protocol=how))
        [answer] = scene.ask(how)
        assert answer["error"] == "ConnectionRefusedError"
        backend = Backend(to_bytes(ip_address(scene.ip(scene.far))), PORT)
        scene.apply(scene.plan(backend, protocol=how))
        [answer] = scene.ask(how)
        assert answer.get("error") == "ConnectionRefusedError", (how, answer)


@pytest.mark.parametrize("mode", [MASQUERADED])
def test_many_clients_behind_one_address(scene: Scene, mode: str) -> None:
    """Each flow has a port of its own at the node, so that no two are mixed up."""
    scene.apply(scene.plan(scene.serve(scene.far, "far", "tcp-lines"), vip=VIPS[scene.family]))
    scene.route(VIPS[scene.family], scene.here)
    clients = [scene.converse(VIPS[scene.family]) for _ in range(30)]
    for _ in range(2):
        assert [say(client) for client in clients] == ["far"] * len(clients)


@pytest.mark.parametrize("mode", [DIRECT])
def test_a_flow_survives_when_its_address_moves(scene: Scene, mode: str) -> None:
    names = ((scene.near, "near"), (scene.far, "far"))
    vip = VIPS[scene.family]
    scene.apply(scene.plan(*[scene.serve(pod, name, "tcp-lines") for pod, name in names], vip=vip))
    scene.route(vip, scene.here)
    clients, first = scene.converse_with_both(vip)
    for node in (scene.there, scene.here):
        scene.route(vip, node)
        assert [say(client) for client in clients] == first
