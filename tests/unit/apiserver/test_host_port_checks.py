"""What the API refuses of ``hostPort``."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.apiserver.host_port_checks import host_ports


def port(host: int, container: int = 80, **more: Any) -> dict[str, Any]:
    return {"hostPort": host, "containerPort": container, "protocol": "TCP", **more}


def spec(*containers: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "ports": ports} for ports in containers], **more}


@pytest.mark.parametrize(
    "fine",
    [
        spec([port(80), port(80, protocol="UDP")]),
        spec([port(80, hostIP="10.0.0.1")], [port(80, hostIP="10.0.0.2"), port(80)]),
        spec([{"containerPort": 80}, {"containerPort": 80}]),
        spec([port(80)], initContainers=[{"name": "i", "ports": [port(80)]}]),
        spec([port(80)], hostNetwork=True),
        {"containers": [{"name": "c"}]},
    ],
)
def test_what_is_right(fine: dict[str, Any]) -> None:
    assert host_ports(fine, "spec") == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            spec([port(80)], [port(7), port(80, 81)]),
            'spec.containers[1].ports[1].hostPort: Duplicate value: "TCP//80"',
        ),
        (
            spec([port(80, hostIP="10.0.0.1"), port(80, hostIP="10.0.0.1")]),
            'spec.containers[0].ports[1].hostPort: Duplicate value: "TCP/10.0.0.1/80"',
        ),
        (
            spec([], initContainers=[{"name": "i", "ports": [port(5), port(5)]}]),
            'spec.initContainers[0].ports[1].hostPort: Duplicate value: "TCP//5"',
        ),
        (
            spec([port(81, 80)], hostNetwork=True),
            "spec.containers[0].ports[0].hostPort: Invalid value: 81: "
            "must match `containerPort` when `hostNetwork` is true",
        ),
    ],
)
def test_what_is_wrong(wrong: dict[str, Any], told: str) -> None:
    assert list(map(str, host_ports(wrong, "spec"))) == [told]
