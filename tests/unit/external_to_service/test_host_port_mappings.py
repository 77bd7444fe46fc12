"""Reading which ports of the node lead to a Pod (N-10): from the runtime, and from the Pod's spec."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.external_to_service.host_ports import Asked, PortMapping, read_mappings, read_pod
from tulle.model.host_ports import HostPort
from tulle.model.objects import Pod

FIRST = "runtimeConfig.portMappings[0]"


def mapped(*mappings: dict[str, Any]) -> Asked:
    return read_mappings(msgspec.convert(mappings, list[PortMapping]))


def mapping(**changes: Any) -> dict[str, Any]:
    return {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""} | changes


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        (mapping(), HostPort(8080, 80, "TCP", "", FIRST)),
        ({"hostPort": 8080, "containerPort": 80}, HostPort(8080, 80, "TCP", "", FIRST)),
        (mapping(protocol="UDP"), HostPort(8080, 80, "UDP", "", FIRST)),
        (mapping(protocol="Sctp"), HostPort(8080, 80, "SCTP", "", FIRST)),
        (mapping(protocol=""), HostPort(8080, 80, "TCP", "", FIRST)),
        (mapping(hostIP="10.0.0.1"), HostPort(8080, 80, "TCP", "10.0.0.1", FIRST)),
        (mapping(hostIP="010.0.0.01"), HostPort(8080, 80, "TCP", "10.0.0.1", FIRST)),
        (mapping(hostIP="::ffff:10.0.0.1"), HostPort(8080, 80, "TCP", "10.0.0.1", FIRST)),
        (mapping(hostIP="FD00:0::1"), HostPort(8080, 80, "TCP", "fd00::1", FIRST)),
        (mapping(hostIP="0.0.0.0"), HostPort(8080, 80, "TCP", "0.0.0.0", FIRST)),
        (mapping(hostIP="::"), HostPort(8080, 80, "TCP", "::", FIRST)),
        (mapping(hostPort=65535, containerPort=1), HostPort(65535, 1, "TCP", "", FIRST)),
    ],
)
def test_what_the_runtime_asks_for(asked: dict[str, Any], read: HostPort) -> None:
    assert mapped(asked) == Asked((read,), ())


@pytest.mark.parametrize(
    ("wrong", "field", "message"),
    [
        ({"hostPort": -1}, "hostPort", "-1 is not 1 to 65535"),
        ({"hostPort": 65536}, "hostPort", "65536 is not"),
        ({"containerPort": 0}, "containerPort", "0 is not"),
        ({"containerPort": 70000}, "containerPort", "70000 is not"),
        ({"protocol": "icmp"}, "protocol", "'icmp' is not tcp, udp or sctp"),
        ({"hostIP": "localhost"}, "hostIP", "'localhost' is no IP address"),
        ({"hostIP": "10.0.0.0/8"}, "hostIP", "'10.0.0.0/8' is no IP address"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], field: str, message: str) -> None:
    """And the others are read all the same."""
    [good], [fault] = mapped(mapping(hostPort=7), mapping(**wrong))
    assert good.host_port == 7
    assert fault.field == f"runtimeConfig.portMappings[1].{field}"
    assert message in fault.message


def test_host_port_zero_is_none() -> None:
    asked = mapped(mapping(hostPort=0), {"containerPort": 80}, mapping(hostPort=5))
    assert asked == Asked((HostPort(5, 80, "TCP", "", "runtimeConfig.portMappings[2]"),), ())


def test_one_port_twice() -> None:
    """The same again says nothing new; another end is a mistake; another address is another port."""
    assert len(mapped(mapping(), mapping()).ports) == 1
    [fault] = mapped(mapping(), mapping(containerPort=81)).faults
    assert fault.field == "runtimeConfig.portMappings[1].hostPort"
    assert "*:8080/TCP is asked for by runtimeConfig.portMappings[0], too" in fault.message
    several = mapped(mapping(), mapping(hostIP="10.0.0.1", containerPort=81), mapping(protocol="udp"))
    assert (len(several.ports), several.faults) == (3, ())


def pod(**spec: Any) -> Pod:
    return msgspec.convert({"metadata": {"name": "p"}, "spec": spec}, Pod)


def container(*ports: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "c", "ports": list(ports), **more}


def test_what_a_pod_asks_for() -> None:
    """Its containers and sidecars; an init container that ends has no time for it."""
    web = {"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}
    asked = read_pod(
        pod(
            containers=[container({"containerPort": 1}, web), {"name": "d", "ports": None}],
            initContainers=[
                container({"containerPort": 2, "hostPort": 2}),
                container({"containerPort": 53, "hostPort": 53, "protocol": "UDP"}, restartPolicy="Always"),
            ],
        )
    )
    assert asked == Asked(
        (
            HostPort(8080, 80, "TCP", "127.0.0.1", "spec.containers[0].ports[1]"),
            HostPort(53, 53, "UDP", "", "spec.initContainers[1].ports[0]"),
        ),
        (),
    )


def test_a_host_network_pod_has_the_port_itself() -> None:
    assert read_pod(pod(hostNetwork=True, containers=[container({"containerPort": 1, "hostPort": 1})])) == (
        (),
        (),
    )


def test_a_fault_in_a_pod_is_named_by_its_place() -> None:
    [fault] = read_pod(pod(containers=[container({"containerPort": 1, "hostPort": 1, "hostIP": "x"})])).faults
    assert fault == ("spec.containers[0].ports[0].hostIP", "'x' is no IP address")


@given(
    st.lists(
        st.builds(
            PortMapping,
            st.integers(-2, 70000),
            st.integers(-2, 70000),
            st.sampled_from(["tcp", "UDP", "sctp", "", "x"]),
            st.sampled_from(["", "::", "0.0.0.0", "10.0.0.1", "fd00::1", "x"]) | st.text(max_size=20),
        ),
        max_size=8,
    )
)
def test_anything_is_read_or_named(mappings: list[PortMapping]) -> None:
    asked = read_mappings(mappings)
    assert len({(p.host_ip, p.host_port, p.protocol) for p in asked.ports}) == len(asked.ports)
    assert all(0 < p.host_port < 65536 and 0 < p.container_port < 65536 for p in asked.ports)
    named = {f.field.rpartition(".")[0] for f in asked.faults} | {p.field for p in asked.ports}
    wanted = {(m.host_port, m.host_ip, m.protocol) for m in mappings if m.host_port}
    assert bool(named) == bool(wanted)


def test_in_words() -> None:
    assert str(HostPort(80, 8080)) == "*:80/TCP"
    assert str(HostPort(80, 8080, "UDP", "10.0.0.1")) == "10.0.0.1:80/UDP"
    assert str(HostPort(80, 8080, "UDP", "fd00::1")) == "[fd00::1]:80/UDP"
