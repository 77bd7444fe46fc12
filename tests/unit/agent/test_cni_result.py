"""Results and errors, in the shape of each version of the specification."""

from __future__ import annotations

import json
from typing import Any

import pytest
from calls import call

from tulle.agent import cni
from tulle.errors import CniError
from tulle.pod_to_pod.store import Attachment

BOTH = Attachment("c1", "eth0", "/run/netns/x", "tul1", "0a:00:00:00:00:01", ("10.1.0.2", "fd01::2"))
GATEWAY_MAC = "02:74:75:6c:6c:65"
FOUR = {"address": "10.1.0.2/32", "gateway": "169.254.1.1", "interface": 1}
SIX = {"address": "fd01::2/128", "gateway": "fe80::1", "interface": 1}


def result(version: str, prev_result: Any = None) -> dict[str, Any]:
    extra = {"prevResult": prev_result} if prev_result else {}
    request = cni.parse_request(call("ADD", cniVersion=version, **extra))
    answer: dict[str, Any] = json.loads(cni.encode_result(request.conf, BOTH, 1450))
    return answer


@pytest.mark.parametrize(
    ("version", "size", "families"),
    [
        ("0.3.1", {}, ({"version": "4"}, {"version": "6"})),
        ("0.4.0", {}, ({"version": "4"}, {"version": "6"})),
        ("1.0.0", {}, ({}, {})),
        ("1.1.0", {"mtu": 1450}, ({}, {})),
    ],
)
def test_result(version: str, size: dict[str, int], families: tuple[dict[str, str], ...]) -> None:
    assert result(version) == {
        "cniVersion": version,
        "interfaces": [
            {"name": "tul1", "mac": GATEWAY_MAC, **size},
            {"name": "eth0", "mac": BOTH.mac, "sandbox": "/run/netns/x", **size},
        ],
        "ips": [FOUR | families[0], SIX | families[1]],
        "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}],
        "dns": {},
    }


def test_chained_behind_another_plugin() -> None:
    """What came before stays first, and our indexes count from there."""
    before = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "net1", "sandbox": "/run/netns/x", "socketPath": "/s"}],
        "ips": [{"address": "172.16.0.2/24", "interface": 0}],
        "routes": [{"dst": "172.16.0.0/12", "priority": 7}],
        "dns": {"nameservers": ["172.16.0.10"]},
    }
    answer = result("1.1.0", before)
    assert [i["name"] for i in answer["interfaces"]] == ["net1", "tul1", "eth0"]
    assert answer["interfaces"][0] == before["interfaces"][0]
    assert answer["ips"] == [before["ips"][0], FOUR | {"interface": 2}, SIX | {"interface": 2}]
    assert answer["routes"][0] == before["routes"][0]
    assert answer["dns"] == before["dns"]


def test_an_empty_result_before_is_as_none() -> None:
    empty = {"interfaces": None, "ips": None, "routes": None, "dns": None}
    assert result("1.0.0", empty) == result("1.0.0")


def test_addresses_of_a_result() -> None:
    ips = [{"address": "10.1.0.2/32"}, {"address": "fd01::2"}, {}, {"address": None}]
    assert {"10.1.0.2", "fd01::2"} <= cni.PrevResult(ips=ips).addresses
    assert cni.PrevResult().addresses == set()


def test_error() -> None:
    bare = {"cniVersion": "1.0.0", "code": 11, "msg": "later"}
    assert json.loads(cni.encode_error("1.0.0", CniError(11, "later"))) == bare
    assert json.loads(cni.encode_error("1.0.0", CniError(11, "later", "why"))) == bare | {"details": "why"}


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (call("ADD", cniVersion="0.4.0"), "0.4.0"),
        (call("ADD", cniVersion="9.0.0"), "1.1.0"),
        (call("ADD", cniVersion=["1.0.0"]), "1.1.0"),
        (b"CNI_COMMAND=ADD\0\0{", "1.1.0"),
        (b"CNI_COMMAND=ADD\0\0[]", "1.1.0"),
        (b"", "1.1.0"),
    ],
)
def test_version_of_the_answer_to_what_could_not_be_read(data: bytes, version: str) -> None:
    assert cni.version_of(data) == version
