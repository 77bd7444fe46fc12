"""``tulle status`` on Services beside a real API server and a real agent."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_api import Api
from nodes import Node
from services import ADDRESSES, ip_of
from status_of import by_frontend, run_status, shown, status

from tulle.pod_to_pod.pinned import Pinned
from tulle.pod_to_service.entries import Entries
from tulle.pod_to_service.words import say_frontend

Cluster = Callable[..., list[Node]]
WEB = "10.96.0.7:80/TCP"
ZONE_A, ZONE_B = {"name": "zone-a"}, {"name": "zone-b"}


def endpoint(address: str, node: str = "other", ready: bool = True, **more: Any) -> dict[str, Any]:
    conditions = {"ready": ready, "serving": ready, "terminating": False}
    return {"addresses": [address], "nodeName": node, "conditions": conditions, **more}


@pytest.fixture
def followed(cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Node, Api]]:
    """An agent that has the Service default/web from an API: three endpoints, of which two are ready."""
    [node] = cluster(start=False)
    api = Api(node, tmp_path / "api")
    try:
        zone = {"topology.kubernetes.io/zone": "zone-a"}
        api.apply_node(node, labels=zone)
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        api.apply("Service", "web", spec={"clusterIP": ADDRESSES[4], "ports": ports})
        api.apply("Service", "nothing", spec={"clusterIP": "None", "ports": ports})
        api.apply_slice(endpoint("10.244.7.1"), endpoint("10.244.7.2"), endpoint("10.244.7.3", ready=False))
        node.start_agent()
        wait_for(lambda: has(node, WEB), "the agent has written the Service")
        yield node, api
    finally:
        api.close()


def has(node: Node, frontend: str) -> bool:
    found = json.loads(run_status(node, "-o", "json").stdout)["services"]
    return bool(by_frontend(found).get(frontend, {}).get("sets"))


def test_beside_an_api_that_the_kernel_agrees_with(followed: tuple[Node, Api]) -> None:
    node, _ = followed
    found = shown(node)
    assert found["apiError"] == "" and found["differences"] == []
    assert "10.96.0.0/16" in found["cidrs"]
    assert "default/nothing" in found["withoutPorts"]
    ports = by_frontend(found)
    assert {"default/web", "default/kubernetes"} <= {port["service"] for port in found["ports"]}
    states = {
        e["endpoint"]: (e["inKernel"], e["used"], e["ready"], e["why"]) for e in ports[WEB]["endpoints"]
    }
    assert states == {
        "10.244.7.1:8080": (["cluster"], ["cluster"], True, ""),
        "10.244.7.2:8080": (["cluster"], ["cluster"], True, ""),
        "10.244.7.3:8080": ([], [], False, "not ready"),
    }
    assert "all as the API says" in status(node)
    one = status(node, "--service", "default/web")
    assert one.startswith(f"default/web http TCP at {WEB}\n") and "10.244.7.3:8080" in one
    assert "needs nothing in the kernel" in status(node, "--service", "default/nothing", code=1)


def test_differences_are_marked_and_no_success(followed: tuple[Node, Api]) -> None:
    """The agent is gone while the API changes; the next one mends it."""
    node, api = followed
    node.kill_agent()
    api.apply_slice(
        endpoint("10.244.7.1", hints={"forZones": [ZONE_B]}),
        endpoint("10.244.7.4", hints={"forZones": [ZONE_A]}),
    )
    api.apply("Service", "new", spec={"clusterIP": "10.96.0.8", "ports": [{"port": 53, "protocol": "UDP"}]})
    ports = by_frontend(shown(node, code=1))
    assert ports[WEB]["differences"] == [
        "endpoint 10.244.7.4:8080: missing in the kernel",
        "endpoint 10.244.7.1:8080: only in the kernel",
        "endpoint 10.244.7.2:8080: only in the kernel",
    ]
    whys = {e["endpoint"]: (e["inKernel"], e["used"], e["why"]) for e in ports[WEB]["endpoints"]}
    assert whys == {
        "10.244.7.1:8080": (["cluster"], [], "meant for zone zone-b"),
        "10.244.7.4:8080": ([], ["cluster"], ""),
        "10.244.7.2:8080": (["cluster"], None, ""),
    }
    assert ports["10.96.0.8:53/UDP"]["differences"] == [
        "10.96.0.8:53/UDP: missing in the kernel",
        "10.96.0.8, refusing other ports: missing in the kernel",
    ]
    table = status(node, code=1)
    assert "2 things differ from what the API says" in table
    assert "default/new" in table and "default/kubernetes" not in table
    status(node, "--service=default/kubernetes")
    api.kubectl("delete", "service", "web")
    assert "? " in status(node, "--service=10.96.0.7", code=1)
    node.start_agent()
    wait_for(lambda: run_status(node).returncode == 0, "the next agent has mended it")


def test_what_leads_to_a_service_from_outside(followed: tuple[Node, Api]) -> None:
    """Node ports, addresses of load balancers and external ones, with the endpoints that they lead to."""
    node, api = followed
    spec = {
        "type": "LoadBalancer",
        "clusterIP": ADDRESSES[4],
        "externalTrafficPolicy": "Local",
        "externalIPs": ["203.0.113.250"],
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}],
    }
    vip = {"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}}
    api.apply("Service", "web", spec=spec)
    api.kubectl("patch", "service", "web", "--subresource=status", f"--patch={json.dumps(vip)}")
    api.apply_slice(endpoint("10.244.7.1"), endpoint("10.244.1.9", node=node.name))
    wait_for(lambda: has(node, "198.51.100.1:80/TCP"), "the agent has written all of it")
    wait_for(lambda: run_status(node).returncode == 0, "nothing differs")
    port = by_frontend(shown(node))[WEB]
    assert [tuple(lead.values()) for lead in port["leads"]] == [
        (WEB, "ClusterIP", "cluster", "cluster", None),
        ("0.0.0.0:30080/TCP (node port)", "NodePort", "cluster", "local", None),
        ("198.51.100.1:80/TCP", "LoadBalancer", "cluster", "local", ["10.0.0.0/8"]),
        ("203.0.113.250:80/TCP", "externalIP", "cluster", "local", None),
    ]
    assert {e["endpoint"]: e["inKernel"] for e in port["endpoints"]} == {
        "10.244.1.9:8080": ["cluster", "local"],
        "10.244.7.1:8080": ["cluster"],
    }
    assert f"Node ports are reached at: {ip_of(node, 4)}\n" in status(node)
    one = status(node, "--service", "default/web")
    assert "policy local: index" in one and "10.0.0.0/8" in one
    assert "default/web" in status(node, "--service", "198.51.100.1")
    node.kill_agent()
    api.apply("Service", "web", spec={**spec, "loadBalancerSourceRanges": ["192.168.7.0/24"]})
    api.apply_slice(endpoint("10.244.7.1"))
    assert by_frontend(shown(node, code=1))[WEB]["differences"] == [
        "198.51.100.1:80/TCP lets in: 10.0.0.0/8 in the kernel, 192.168.7.0/24 by the API",
        "endpoint 10.244.1.9:8080 of policy Cluster: only in the kernel",
        "endpoint 10.244.1.9:8080 of policy Local: only in the kernel",
    ]
    node.start_agent()
    wait_for(lambda: run_status(node).returncode == 0, "the next agent has mended it")


def test_an_address_that_the_node_has_itself(followed: tuple[Node, Api]) -> None:
    """Such as that of a DNS server on each node: the Service is left to the node, and that is right."""
    node, _ = followed
    node.run("ip", "address", "add", f"{ADDRESSES[4]}/32", "dev", "lo")
    wait_for(lambda: not has(node, WEB), "the agent leaves the Service to the node")
    found = shown(node)
    assert found["ownAddresses"] == [ADDRESSES[4]]
    port = by_frontend(found)[WEB]
    assert (port["service"], port["ofNode"], port["sets"]) == ("default/web", True, [])
    node.kill_agent()
    node.run("ip", "address", "del", f"{ADDRESSES[4]}/32", "dev", "lo")
    assert by_frontend(shown(node, code=1))[WEB]["differences"] == [
        f"{WEB}: missing in the kernel",
        f"{ADDRESSES[4]} is left to this node, which does not have the address",
    ]


def test_programs_that_are_not_attached_are_noticed(followed: tuple[Node, Api]) -> None:
    """Without them, the node's own processes have no Services."""
    node, _ = followed
    node.kill_agent()
    (node.bpffs / "links" / "sockets:connect4").unlink()
    assert shown(node, code=1)["differences"] == ["program at the sockets: connect4: missing in the kernel"]


def test_a_node_that_leaves_services_to_kube_proxy(followed: tuple[Node, Api], tmp_path: Path) -> None:
    """With ``services: false`` nothing is right; until an agent has taken out what there is, that is told."""
    node, _ = followed
    config = tmp_path / "agent.yaml"
    config.write_text("services: false")
    found = shown(node, f"--config={config}", code=1)
    assert f"{WEB}: only in the kernel" in by_frontend(found)[WEB]["differences"]
    assert "Service CIDR 10.96.0.0/16: only in the kernel" in found["differences"]
    node.kill_agent()
    node.start_agent(f"--config={config}")
    wait_for(lambda: run_status(node, f"--config={config}").returncode == 0, "the Services are taken out")
    text = status(node, f"--config={config}")
    assert "0 ports in the kernel" in text and "none, as this node's settings say" in text


def test_a_change_of_the_kernel_is_noticed(followed: tuple[Node, Api]) -> None:
    """Whoever made it; here one frontend is taken away."""
    node, _ = followed
    node.kill_agent()
    maps = Pinned(node.bpffs)
    entries = Entries(maps.contract)
    [key] = [
        key
        for key in maps.open("frontends", 12).items(entries.frontend_size)
        if say_frontend(entries.read_frontend(key)) == WEB
    ]
    maps.open("frontends", 12).discard(key)
    assert by_frontend(shown(node, code=1))[WEB]["differences"] == [f"{WEB}: missing in the kernel"]


def wait_for(condition: Callable[[], bool], what: str, patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        select.select([], [], [], 0.05)
