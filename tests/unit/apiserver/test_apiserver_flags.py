"""Flags of ``tulle apiserver`` that are about Services."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulle.apiserver.own_service import Advertised
from tulle.apiserver.server import Settings, _advertised
from tulle.cli import apiserver
from tulle.errors import ConfigError

CIDRS, PORTS, ADDRESSES = apiserver._service_cidrs, apiserver._port_range, apiserver._advertised


@pytest.mark.parametrize(
    ("read", "text", "found"),
    [
        (CIDRS, "10.96.0.0/16", ["10.96.0.0/16"]),
        (CIDRS, "FD00:10:96::/112, 10.96.0.0/16", ["fd00:10:96::/112", "10.96.0.0/16"]),
        (PORTS, "30000-32767", range(30000, 32768)),
        (PORTS, "80-80", range(80, 81)),
        (ADDRESSES, "192.0.2.1,2001:db8::1", ["192.0.2.1", "2001:db8::1"]),
    ],
)
def test_flags_that_are_right(read: Callable[[str], Any], text: str, found: Any) -> None:
    assert read(text) == found


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (CIDRS, "nonsense", "--service-cidr nonsense: "),
        (CIDRS, "nonsense", "must be a CIDR such as 10.96.0.0/16, or two of different families"),
        (CIDRS, "10.96.0.0/16,10.97.0.0/16", "or two of different families, divided by a comma"),
        (CIDRS, "10.96.0.0/16,fd00::/112,fd01::/112", "or two of different families"),
        (CIDRS, "10.96.0.1/16", "has host bits set"),
        (CIDRS, "10.96.0.0/30", "10.96.0.0/30 holds fewer than 8 addresses"),
        (PORTS, "1", "--service-node-port-range 1: must be FIRST-LAST such as 30000-32767"),
        (PORTS, "9-8", "must be FIRST-LAST"),
        (PORTS, "1-70000", "must be FIRST-LAST"),
        (PORTS, "0-9", "must be FIRST-LAST"),
        (ADDRESSES, "x", "--advertise-address x: "),
        (ADDRESSES, "127.0.0.1", "must be an address that Pods reach, not loopback"),
        (ADDRESSES, "::", "must be an address that Pods reach"),
        (ADDRESSES, "192.0.2.1,192.0.2.2", "at most one of each family"),
    ],
)
def test_flags_that_cannot_be_right(read: Callable[[str], Any], text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        read(text)


class Listener:
    def __init__(self, host: str, port: int) -> None:
        self.name = (host, port)

    def getsockname(self) -> tuple[str, int]:
        return self.name


@pytest.mark.parametrize(
    ("listeners", "given", "found"),
    [
        ([("127.0.0.1", 1), ("192.0.2.1", 6443), ("192.0.2.2", 2)], {}, Advertised(["192.0.2.1"], 6443)),
        ([("192.0.2.1", 6443), ("2001:db8::1", 6443)], {}, Advertised(["192.0.2.1", "2001:db8::1"], 6443)),
        ([("127.0.0.1", 1), ("::1", 2), ("0.0.0.0", 3)], {}, Advertised([], 1)),
        ([("127.0.0.1", 1)], {"advertise": ["192.0.2.9"]}, Advertised(["192.0.2.9"], 1)),
        (
            [("127.0.0.1", 1)],
            {"advertise": ["192.0.2.9"], "advertise_port": 443},
            Advertised(["192.0.2.9"], 443),
        ),
    ],
)
def test_where_pods_reach_the_api(
    listeners: list[tuple[str, int]], given: dict[str, Any], found: Advertised
) -> None:
    sockets: list[Any] = [Listener(*each) for each in listeners]
    assert _advertised(Settings(Path(), (), **given), sockets) == found
