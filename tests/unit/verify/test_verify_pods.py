"""What the API says of Pods and Nodes, and the Pods that are asked for."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tulle.verify.manifests import DEFAULT_IMAGE, Image, choose_image, pod, wanted
from tulle.verify.pods import claimed_addresses, is_running, is_settled, node_addresses, place, problem

RUNNING = [{"name": "main", "state": {"running": {}}}]
IPS = [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]


def status(ready: str = "False", **fields: Any) -> dict[str, Any]:
    return {"spec": {}, "status": {"conditions": [{"type": "Ready", "status": ready}], **fields}}


def waiting(reason: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "load it"}}
    return status(containerStatuses=[{"name": "main", "state": state}])


@pytest.mark.parametrize(
    ("shown", "words", "settled"),
    [
        (status("True"), "", True),
        (None, "it was never created", False),
        (waiting("ErrImageNeverPull"), "container main: ErrImageNeverPull: load it", True),
        (waiting("ContainerCreating"), "container main: ContainerCreating: load it", False),
        (
            status(containerStatuses=RUNNING, podIPs=IPS),
            "its containers run, but a readiness probe fails: the kubelet does not reach the Pod",
            False,
        ),
        (status(phase="Pending"), "phase Pending", False),
        (status(phase="Failed", reason="Evicted", message="full"), "phase Failed: Evicted: full", True),
    ],
)
def test_why_a_pod_is_not_ready(shown: dict[str, Any] | None, words: str, settled: bool) -> None:
    assert problem(shown) == words
    assert is_settled(shown) is settled


def test_a_pod_takes_part_once_it_runs_with_an_address() -> None:
    assert is_running(status(containerStatuses=RUNNING, podIPs=IPS))
    assert not is_running(status(containerStatuses=RUNNING))
    assert not is_running(waiting("x"))
    assert not is_running({})
    want = wanted(["n"], 20_000, 23_457)[0]
    assert place(want, status(podIPs=IPS)).addresses == ("10.0.0.1", "fd00::1")


def test_addresses_are_claimed_by_pods_that_live_and_have_their_own() -> None:
    live, over, host = (status(podIP="10.0.0.1") for _ in range(3))
    over["status"]["phase"] = "Succeeded"
    host["spec"]["hostNetwork"] = True
    assert claimed_addresses([live, over, host]) == {"10.0.0.1": 1}
    addresses = [{"type": "InternalIP", "address": "10.9.9.9"}, {"type": "Hostname", "address": "n"}]
    assert node_addresses({"status": {"addresses": addresses}}) == {"10.9.9.9"}


def node(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "n", **metadata}}


def test_the_image() -> None:
    assert choose_image(None, [node()]) == Image(DEFAULT_IMAGE, "python3")
    lab = node(annotations={"tulle.dev/lab": "default"})
    assert choose_image(None, [lab]) == Image("tulle.dev/host", sys.executable)
    assert choose_image("mine:1", [lab]) == Image("mine:1", "python3")


def test_each_node_gets_two_pods_and_one_on_the_host_network() -> None:
    wants = wanted(["x", "y"], 23_456, 23_457)
    assert [(w.pod, w.node) for w in wants] == [
        *(("a-1", "x"), ("b-1", "x"), ("host-1", "x")),
        *(("a-2", "y"), ("b-2", "y"), ("host-2", "y")),
    ]
    host = pod(wants[2], Image("i", "python3"))["spec"]
    assert (host["hostNetwork"], host["nodeName"]) == (True, "x")
    assert host["containers"][0]["command"][-4:] == ["--name", "host-1", "--port", "23456"]
    two = pod(wants[0], Image("i", "python3"))["spec"]["containers"]
    assert [c["readinessProbe"]["httpGet"]["port"] for c in two] == [8099, 8098]
