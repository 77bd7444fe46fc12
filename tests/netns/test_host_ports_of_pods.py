"""Host ports by the Pod's spec, where the runtime says nothing of them (N-10): a real agent, a real API."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from node_api import Api
from nodes import Node, Pod
from services import ip_of
from status_of import status
from test_service_status_agrees import wait_for

from tulle.errors import KernelError
from tulle.pod_to_pod.pinned import Pinned

ENDS = str(Path(__file__).parents[1] / "ends.py")
PATIENCE = 60.0  # seconds
Cluster = Callable[..., list[Node]]


@pytest.fixture
def followed(cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Node, Api]]:
    """A node whose agent follows an API, with one family."""
    [node] = cluster(start=False)
    api = Api(node, tmp_path / "api")
    try:
        api.apply_node(node)
        node.start_agent()
        yield node, api
    finally:
        api.close()


def port(host_port: int, container_port: int = 80, **more: Any) -> dict[str, Any]:
    return {"hostPort": host_port, "containerPort": container_port, **more}


def apply_pod(api: Api, node: Node, name: str, *ports: dict[str, Any], **spec: Any) -> None:
    """The object of the Pod that ``node.add(name)`` connects."""
    main = {"name": "main", "image": "none", "ports": list(ports)}
    api.apply("Pod", f"{node.name}-{name}", spec={"nodeName": node.name, "containers": [main], **spec})


def serve(pod: Pod, name: str) -> None:
    server = pod.popen(sys.executable, ENDS, "serve", name, "tcp", "80")
    pod.children.append(server)
    assert server.stdout and server.stdout.readline() == "ready\n"


def asked(node: Node, address: str, number: int) -> str:
    done = node.run(sys.executable, ENDS, "ask", "tcp", address, str(number), "1", "64")
    answer = json.loads(done.stdout)
    return str(answer.get("name", answer.get("error")))


def until(node: Node, address: str, number: int, wanted: str) -> None:
    """Asks until ``wanted`` answers."""
    deadline = time.monotonic() + PATIENCE
    while (found := asked(node, address, number)) != wanted:
        assert time.monotonic() < deadline, f"{found}, not {wanted}\n{node.log()}"


def event_on(api: Api, node: Node, name: str, *words: str) -> None:
    """Waits for an Event that ``kubectl describe`` shows with the Pod, and that says all of ``words``."""
    pod = f"{node.name}-{name}"
    uid = api.kubectl("get", "pod", pod, "--output=jsonpath={.metadata.uid}")
    await_event(
        api, node, f"involvedObject.kind=Pod,involvedObject.name={pod},involvedObject.uid={uid}", words
    )


def await_event(api: Api, node: Node, selector: str, words: Sequence[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = json.loads(api.kubectl("get", "events", f"--field-selector={selector}", "--output=json"))
        said = [event["message"] for event in found["items"]]
        if any(all(word in message for word in words) for message in said):
            return
        assert time.monotonic() < deadline, f"{said}, not {words}\n{node.log()}"


@pytest.mark.parametrize("known", ["before", "after"])
def test_the_spec_counts_where_the_runtime_says_nothing(followed: tuple[Node, Api], known: str) -> None:
    """Whether the API or the runtime is first. A sidecar's count, too; an init container's do not."""
    node, api = followed
    ports, init = [port(8080), port(8081, hostIP="127.0.0.1")], {"name": "i", "image": "none"}
    inits = [
        {**init, "restartPolicy": "Always", "ports": [port(8082)]},
        {**init, "name": "j", "ports": [port(8083)]},
    ]
    if known == "before":
        apply_pod(api, node, "web", *ports, initContainers=inits)
    serve(node.add("web"), "web")
    if known == "after":
        apply_pod(api, node, "web", *ports, initContainers=inits)
    for address, number in ((ip_of(node, 4), 8080), ("127.0.0.1", 8080), ("127.0.0.1", 8081)):
        until(node, address, number, "web")
    assert asked(node, "127.0.0.1", 8082) == "web"
    assert asked(node, "127.0.0.1", 8083) == "ConnectionRefusedError"


def test_the_runtimes_word_goes_before_the_specs(followed: tuple[Node, Api]) -> None:
    node, api = followed
    apply_pod(api, node, "web", port(8080))
    apply_pod(api, node, "other", port(8081))
    mapping = {"hostPort": 9090, "containerPort": 80, "protocol": "tcp", "hostIP": ""}
    serve(node.add("web", mapping), "web")
    serve(node.add("other"), "other")
    until(node, "127.0.0.1", 8081, "other")
    assert asked(node, "127.0.0.1", 9090) == "web"
    assert asked(node, "127.0.0.1", 8080) == "ConnectionRefusedError"


def test_a_conflict_is_an_event_and_ends_with_the_other_pod(followed: tuple[Node, Api]) -> None:
    """The Pod's other port is served all the time."""
    node, api = followed
    apply_pod(api, node, "first", port(8080))
    first = node.add("first")
    serve(first, "first")
    until(node, "127.0.0.1", 8080, "first")
    apply_pod(api, node, "second", port(8080, hostIP="127.0.0.1"), port(8081))
    serve(node.add("second"), "second")
    until(node, "127.0.0.1", 8081, "second")
    place = "spec.containers[0].ports[0].hostPort"
    event_on(api, node, "second", place, "127.0.0.1:8080/TCP", "default/node-1-first")
    assert asked(node, "127.0.0.1", 8080) == "first"
    node.call("DEL", first)
    until(node, "127.0.0.1", 8080, "second")


def test_a_host_ip_that_the_node_lacks_is_an_event(followed: tuple[Node, Api]) -> None:
    """As is one of a family that the Pod lacks; and both disturb nothing."""
    node, api = followed
    apply_pod(api, node, "web", port(8080, hostIP="192.0.2.1"), port(8081, hostIP="::1"), port(8082))
    serve(node.add("web"), "web")
    until(node, "127.0.0.1", 8082, "web")
    event_on(api, node, "web", "spec.containers[0].ports[0].hostIP", "192.0.2.1 is no address of this node")
    event_on(api, node, "web", "spec.containers[0].ports[1].hostIP", "no address of the family of ::1")
    assert node.call("CHECK", node.pods[0], prevResult=node.pods[0].result)["exit"] == 0


def test_the_runtimes_host_ip_is_told_of_as_well(followed: tuple[Node, Api]) -> None:
    node, api = followed
    apply_pod(api, node, "web", port(8080, hostIP="192.0.2.1"))
    mapping = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}
    node.add("web", mapping)
    event_on(api, node, "web", "runtimeConfig.portMappings[0].hostIP", "192.0.2.1")


def test_a_node_port_with_the_same_number_is_an_event(followed: tuple[Node, Api]) -> None:
    node, api = followed
    apply_pod(api, node, "web", port(30080))
    node.add("web")
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    api.apply("Service", "api", spec={"type": "NodePort", "ports": ports})
    event_on(api, node, "web", "spec.containers[0].ports[0].hostPort", "node port 30080/TCP", "default/api")


def test_a_services_address_with_the_same_port_is_an_event_on_the_service(followed: tuple[Node, Api]) -> None:
    """The Pod has it, whoever came first and also after a restart; the Service gets it when the Pod goes."""
    node, api = followed
    address = ip_of(node, 4)
    api.apply("Service", "web", spec={"externalIPs": [address], "ports": [{"name": "http", "port": 8090}]})
    api.apply_slice({"addresses": [address], "nodeName": node.name})
    server = node.popen(sys.executable, ENDS, "serve", "node", "tcp", "8080")
    node.children.append(server)
    assert server.stdout and server.stdout.readline() == "ready\n"
    until(node, address, 8090, "node")
    apply_pod(api, node, "web", port(8090, hostIP=address))
    web = node.add("web")
    serve(web, "web")
    until(node, address, 8090, "web")
    selector = "involvedObject.kind=Service,involvedObject.name=web"
    await_event(api, node, selector, (f"spec.externalIPs: {address}:8090/TCP", "Pod default/node-1-web"))
    node.kill_agent()
    written = node.log().count("Services are in the kernel")
    node.start_agent()
    wait_for(lambda: node.log().count("Services are in the kernel") > written, "the next agent's are, too")
    assert asked(node, address, 8090) == "web"
    assert "belongs to Pod default/node-1-web" in status(node), "and that is no difference"
    node.call("DEL", web)
    until(node, address, 8090, "node")


def test_a_full_table_is_an_event_and_is_tried_again(followed: tuple[Node, Api]) -> None:
    """The Pod's ADD does not fail for what only its spec says."""
    node, api = followed
    table = Pinned(node.bpffs).open("frontends", 12)
    junk = [number.to_bytes(20, "little") for number in range(1, table.most + 1)]
    try:
        with pytest.raises(KernelError):
            table.update_all(junk, [bytes(12)] * len(junk))
        apply_pod(api, node, "web", port(8080))
        serve(node.add("web"), "web")
        event_on(api, node, "web", "spec.containers[0].ports[0].hostPort", "Service table is full")
        assert asked(node, "127.0.0.1", 8080) == "ConnectionRefusedError"
        table.discard_all(junk)
        until(node, "127.0.0.1", 8080, "web")
    finally:
        os.close(table.fd)


def test_the_next_agent_knows_them_without_the_api(followed: tuple[Node, Api]) -> None:
    node, api = followed
    apply_pod(api, node, "web", port(8080))
    serve(node.add("web"), "web")
    until(node, "127.0.0.1", 8080, "web")
    node.kill_agent()
    api.close()
    node.start_agent()
    assert asked(node, "127.0.0.1", 8080) == "web"
    late = node.make_pod("late")
    mapping = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}
    answer = node.call("ADD", late, runtimeConfig={"portMappings": [mapping]})
    assert "default/node-1-web" in answer["msg"]
