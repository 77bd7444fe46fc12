"""`tulle controller` dies, sleeps, is stopped, or loses the API: addresses stay, and another one goes on."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apiserver_process import ApiServer
from pool_world import ASSIGNED, FINALIZER, OPTIONS, Controllers, World, condition, eventually, leads

from tulle.external_to_service.crds import crds

Place = tuple[World, Controllers]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An API server with our resources, and no controller yet."""
    server = ApiServer(tmp_path)
    server.start(*OPTIONS)
    world, controllers = World(server, tmp_path), Controllers(server)
    try:
        for definition in crds():
            world.apply(definition)
        yield world, controllers
    finally:
        controllers.close()
        server.close()


def start_two(controllers: Controllers) -> tuple[Any, Path, Path]:
    """The leader, its log, and that of one who waits."""
    first, log = controllers.start()
    eventually(lambda: leads(log), "the first leads")
    _, second_log = controllers.start()
    eventually(lambda: "waiting for the Lease" in second_log.read_text(), "the second waits")
    return first, log, second_log


def test_another_controller_goes_on_when_the_leader_is_killed(place: Place) -> None:
    world, controllers = place
    first, _, second_log = start_two(controllers)
    world.pool("p", "203.0.113.0/28")
    world.service("a", "p")
    assert world.ips("a") == ["203.0.113.0"]
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    world.service("b", "p")
    world.kubectl("delete", "service", "a", "--wait=false")
    world.service("c", "p")
    world.said("c", "Assigned")
    eventually(lambda: world.kubectl.run("get", "service", "a").returncode != 0, "a is released")
    ips = world.ips("b") + world.ips("c")
    assert len(set(ips)) == 2 and leads(second_log)
    assert not leads(controllers.start()[1])


def test_a_leader_that_is_told_to_stop_makes_way_at_once(place: Place) -> None:
    world, controllers = place
    first, _, second_log = start_two(controllers)
    lease = ("get", "lease", "tulle-controller", "-n", "kube-system")
    holder = "jsonpath={.spec.holderIdentity}{'\\n'}"
    with world.kubectl.open(*lease, "--watch", "-o", holder) as watch:
        assert watch.stdout and watch.stdout.readline().strip(), "the first"
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
        assert "" in map(str.strip, watch.stdout), "nobody: who waits need not wait longer"
        watch.terminate()
    eventually(lambda: leads(second_log), "the second leads")
    assert json.loads(world.kubectl(*lease, "-o", "json"))["spec"]["leaseTransitions"] == 2


def test_a_leader_that_slept_writes_nothing_any_more(place: Place) -> None:
    world, controllers = place
    first, log, second_log = start_two(controllers)
    world.pool("p", "203.0.113.0/28")
    first.send_signal(signal.SIGSTOP)
    eventually(lambda: leads(second_log), "the second leads")
    world.service("a", "p")
    assert world.ips("a") == ["203.0.113.0"]
    first.send_signal(signal.SIGCONT)
    eventually(lambda: "the Lease could not be renewed in time" in log.read_text(), "the first makes way")
    eventually(lambda: log.read_text().count("waiting for the Lease") == 2, "and waits again")
    assert "Service default/a" not in log.read_text()
    world.service("b", "p")
    assert world.ips("b") == ["203.0.113.1"]


def test_without_a_class_services_can_be_left_to_others(place: Place) -> None:
    world, controllers = place
    controllers.start("--require-class")
    world.pool("p", "203.0.113.0/28")
    world.service("a", "p")
    world.service("b", "p", loadBalancerClass="tulle.dev/lb")
    assert world.ips("b") == ["203.0.113.0"]
    assert condition(world.get("service", "a"), ASSIGNED) is None


def test_no_address_is_given_twice_while_controllers_die(place: Place) -> None:
    """As many addresses as Services: one that were lost would be missed, too."""
    world, controllers = place
    most = 32
    controllers.start()
    world.pool("p", f"203.0.113.0-203.0.113.{most - 1}")
    names = [f"s{number}" for number in range(most)]
    rounds = (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL)
    for part, number in enumerate(rounds):
        world.services(names[part :: len(rounds)], "p")
        running = controllers.last()
        running.send_signal(number)
        controllers.start()
        running.wait(10)
        gone = names[part :: len(rounds)][:3]
        world.kubectl("delete", "service", *gone, "--wait=false")
        eventually(lambda gone=gone: not world.exist(*gone), "they are released")
        assert twice(world) == []
        world.services(gone, "p")
    eventually(lambda: len(world.all_ips()) == most, "each Service has an address")
    assert twice(world) == []


def twice(world: World) -> list[str]:
    """Addresses that more than one Service has."""
    ips = world.all_ips()
    return [ip for ip in ips if ips.count(ip) > 1]


def test_the_api_may_go_away_for_a_while(place: Place) -> None:
    world, controllers = place
    _, log = controllers.start()
    world.pool("p", "203.0.113.0/28")
    world.service("a", "p")
    world.server.kill()
    world.server.start(*OPTIONS)
    world.service("b", "p")
    assert world.ips("a") + world.ips("b") == ["203.0.113.0", "203.0.113.1"]
    assert log.read_text().count("this is the leader now") == 1


def test_a_new_controller_mends_what_it_finds(place: Place) -> None:
    """Two Services with one address; one whose controller died between two writes; one that is leaving."""
    world, controllers = place
    names = ("older", "younger", "leaving")
    for name in names:
        world.service(name, "p")
        made = world.get("service", name)["metadata"]["creationTimestamp"]
        world.later_than(made)
        same = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}}}
        patch = ("patch", "service", name, "--subresource=status", "--type=merge", "-p", json.dumps(same))
        world.kubectl(*patch)
    ours = {"finalizers": [FINALIZER], "annotations": {"tulle.dev/load-balancer-cleanup": "true"}}
    for name in ("leaving", "half-done"):
        if name == "half-done":
            world.service(name, "p", type="ClusterIP")
        world.kubectl("patch", "service", name, "--type=merge", "-p", json.dumps({"metadata": ours}))
    world.service("foreign", "p", type="ClusterIP")
    theirs = json.dumps({"metadata": {"finalizers": [FINALIZER]}})
    world.kubectl("patch", "service", "foreign", "--type=merge", "-p", theirs)
    world.kubectl("delete", "service", "leaving", "--wait=false")
    controllers.start()
    world.pool("p", "203.0.113.4/30")
    assert world.ips("older") == ["203.0.113.5"]
    message = "203.0.113.4 given; 203.0.113.5 was left to Service default/older, the older one"
    world.said("younger", "Assigned")
    assert world.ips("younger") == ["203.0.113.4"]
    assert world.event("Service", "younger", "Assigned") == message
    eventually(lambda: world.kubectl.run("get", "service", "leaving").returncode != 0, "leaving is gone")

    def forgotten() -> bool:
        half = world.get("service", "half-done")
        return not half["metadata"].get("finalizers") and condition(half, ASSIGNED) is None

    eventually(forgotten, "nothing of ours is left on half-done")
    assert world.get("service", "foreign")["metadata"]["finalizers"] == [FINALIZER]
