"""Reading CNI calls: what is wrong is named with the specification's code; nothing else is raised."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from calls import POD, call, raw_call
from hypothesis import given
from hypothesis import strategies as st

from tulle.agent import cni
from tulle.errors import CniError
from tulle.model.host_ports import HostPort

ARGUMENTS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u1;odd;=;K8S=a=b"


def test_add() -> None:
    request = cni.parse_request(call("ADD", POD | {"CNI_ARGS": ARGUMENTS, "CNI_PATH": "/opt/cni/bin"}))
    assert (request.command, request.container_id, request.netns) == ("ADD", "c1", "/run/netns/x")
    assert (request.ifname, request.namespace, request.pod, request.uid) == ("eth0", "default", "web", "u1")
    assert (request.conf.version, request.conf.name, request.conf.prev_result) == ("1.1.0", "tulle", None)


@pytest.mark.parametrize("version", cni.VERSIONS)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_commands_and_versions(command: str, version: str) -> None:
    request = cni.parse_request(call(command, cniVersion=version, unknown={"field": 1}))
    assert (request.command, request.conf.version) == (command, version)


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_calls_about_no_container_need_no_variables(command: str) -> None:
    assert cni.parse_request(call(command, {})).command == command


def test_del_needs_neither_netns_nor_prev_result() -> None:
    assert cni.parse_request(call("DEL", {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"})).netns == ""


def test_gc_names_what_is_valid() -> None:
    valid = [{"containerID": "c1", "ifname": "eth0", "more": 1}]
    request = cni.parse_request(call("GC", {}, **{"cni.dev/valid-attachments": valid}))
    assert request.conf.valid == (cni.ValidAttachment("c1", "eth0"),)
    assert cni.parse_request(call("GC", {}, **{"cni.dev/valid-attachments": []})).conf.valid == ()
    assert cni.parse_request(call("GC", {}, **{"cni.dev/valid-attachments": None})).conf.valid is None
    assert cni.parse_request(call("GC", {})).conf.valid is msgspec.UNSET


def environment(**changes: str) -> bytes:
    return call("ADD", POD | {f"CNI_{name}": value for name, value in changes.items()})


@pytest.mark.parametrize(
    ("data", "code", "named"),
    [
        (b"", 4, "CNI_COMMAND: ''"),
        (b"\0\0\0", 4, "CNI_COMMAND: ''"),
        (call("VERSION"), 4, "CNI_COMMAND: 'VERSION'"),
        (call("add"), 4, "CNI_COMMAND: 'add'"),
        (environment(CONTAINERID=""), 4, "CNI_CONTAINERID is missing; ADD"),
        (environment(NETNS=""), 4, "CNI_NETNS is missing; ADD"),
        (environment(IFNAME=""), 4, "CNI_IFNAME is missing; ADD"),
        (call("DEL", {"CNI_CONTAINERID": "c1"}), 4, "CNI_IFNAME is missing; DEL"),
        (call("CHECK", {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "e"}), 4, "CNI_NETNS is missing; CHECK"),
        (environment(CONTAINERID="../c1"), 4, "CNI_CONTAINERID: '../c1'"),
        (environment(CONTAINERID=".c1"), 4, "CNI_CONTAINERID"),
        (environment(IFNAME="."), 4, "CNI_IFNAME"),
        (environment(IFNAME=".."), 4, "CNI_IFNAME"),
        (environment(IFNAME="a/b"), 4, "CNI_IFNAME"),
        (environment(IFNAME="a:b"), 4, "CNI_IFNAME"),
        (environment(IFNAME="a b"), 4, "CNI_IFNAME"),
        (environment(IFNAME="sixteen-letters-"), 4, "CNI_IFNAME"),
        (raw_call("ADD", b""), 6, "not JSON"),
        (raw_call("ADD", b"{"), 6, "not JSON"),
        (raw_call("ADD", b"{}}"), 6, "not JSON"),
        (raw_call("ADD", b"\xff\xfe"), 6, "not JSON"),
        (raw_call("ADD", b'{"a":' + b"[" * 100_000), 6, "not JSON"),
        (raw_call("ADD", b"[]"), 7, "Expected `object`"),
        (raw_call("ADD", b"null"), 7, "Expected `object`"),
        (call("ADD", cniVersion=1), 7, "$.cniVersion"),
        (call("ADD", name=None), 7, "$.name"),
        (call("ADD", name=""), 7, "name: "),
        (call("ADD", prevResult=[]), 7, "$.prevResult"),
        (call("ADD", prevResult={"ips": 1}), 7, "$.prevResult.ips"),
        (call("ADD", prevResult={"interfaces": ["eth0"]}), 7, "$.prevResult.interfaces[0]"),
        (call("GC", {}, **{"cni.dev/valid-attachments": [{}]}), 7, "cni.dev/valid-attachments"),
        (raw_call("ADD", b"{}"), 1, "cniVersion: 0.1.0"),
        (call("ADD", cniVersion="1.2.0"), 1, "cniVersion: 1.2.0"),
        (call("ADD", cniVersion=""), 1, "cniVersion: "),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, bytes) else None,
)
def test_what_is_wrong_is_named(data: bytes, code: int, named: str) -> None:
    with pytest.raises(CniError) as raised:
        cni.parse_request(data)
    assert (raised.value.code, named in str(raised.value)) == (code, True), str(raised.value)
    assert json.loads(cni.encode_error(cni.version_of(data), raised.value))["code"] == code


def port_mappings(runtime_config: Any) -> tuple[HostPort, ...] | None:
    return cni.read_port_mappings(cni.parse_request(call("ADD", runtimeConfig=runtime_config)).conf)


def test_port_mappings() -> None:
    """N-10; what a runtime does not say is another thing than that there are none."""
    mapping = {"hostPort": 8080, "containerPort": 80, "protocol": "udp", "hostIP": "::1", "more": 1}
    [port] = port_mappings({"portMappings": [mapping], "bandwidth": {}}) or ()
    assert (str(port), port.container_port) == ("[::1]:8080/UDP", 80)
    assert port_mappings({"portMappings": []}) == ()
    for nothing in ({}, {"portMappings": None}, None):
        assert port_mappings(nothing) is None
    assert cni.read_port_mappings(cni.parse_request(call("ADD")).conf) is None


@pytest.mark.parametrize(
    ("runtime_config", "named"),
    [
        ([], "$.runtimeConfig"),
        ({"portMappings": {}}, "$.runtimeConfig.portMappings"),
        ({"portMappings": [1]}, "$.runtimeConfig.portMappings[0]"),
        ({"portMappings": [{"hostPort": "80"}]}, "$.runtimeConfig.portMappings[0].hostPort"),
        ({"portMappings": [{"hostPort": 80}]}, "runtimeConfig.portMappings[0].containerPort: 0 is not"),
        (
            {"portMappings": [{"hostPort": 80, "containerPort": 80, "hostIP": "no"}]},
            "runtimeConfig.portMappings[0].hostIP: 'no' is no IP address",
        ),
    ],
)
def test_wrong_port_mappings_are_named_and_do_not_keep_del_from_its_work(
    runtime_config: Any, named: str
) -> None:
    with pytest.raises(CniError) as raised:
        port_mappings(runtime_config)
    assert (raised.value.code, named in str(raised.value)) == (7, True), str(raised.value)
    assert cni.parse_request(call("DEL", runtimeConfig=runtime_config)).container_id == "c1"


def refused_or_read(data: bytes) -> None:
    with suppress(CniError):
        cni.read_port_mappings(cni.parse_request(data).conf)
    assert cni.version_of(data) in cni.VERSIONS


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    refused_or_read(data)


@given(
    st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS"]), st.binary(max_size=100), st.binary(max_size=200)
)
def test_any_variables_and_any_input(command: str, variables: bytes, stdin: bytes) -> None:
    refused_or_read(raw_call(command, b"")[:-1] + variables + b"\0\0" + stdin)
    refused_or_read(raw_call(command, stdin))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=3,
)
RESULT = st.dictionaries(
    st.sampled_from(["interfaces", "ips", "routes", "dns"]), JSON | st.lists(st.just({}))
)
CONF = st.fixed_dictionaries(
    {},
    optional={
        "cniVersion": st.sampled_from(cni.VERSIONS) | JSON,
        "name": st.text(max_size=5) | JSON,
        "prevResult": RESULT | JSON,
        "runtimeConfig": st.fixed_dictionaries({}, optional={"portMappings": st.lists(JSON)}) | JSON,
        "cni.dev/valid-attachments": st.lists(st.fixed_dictionaries({}, optional={"containerID": JSON}))
        | JSON,
    },
)


@given(st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS"]), CONF | JSON)
def test_any_json(command: str, conf: Any) -> None:
    refused_or_read(raw_call(command, json.dumps(conf).encode()))
