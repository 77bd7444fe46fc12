"""The log of dropped packets: the first of a kind, then one in ten seconds with the number in between."""

from __future__ import annotations

from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tulle.agent.drops import DropLog
from tulle.kernel.bpf_objects import BpfObject
from tulle.kernel.btf import Contract
from tulle.model.address import to_bytes

SECOND = 10**9
NO_LINK = 999_999


@pytest.fixture
def contract() -> Contract:
    opened = BpfObject(Path(str(files("tulle"))) / "_native" / "pod.bpf.o")
    opened.close()
    return opened.contract


def drop(
    contract: Contract, at: int, reason: str = "DROP_SPOOFED_SOURCE", ifindex: int = NO_LINK, family: int = 4
) -> Any:
    """An event at ``at`` seconds since boot."""
    source, destination = ("10.1.0.9", "10.2.0.2") if family == 4 else ("fd01::9", "fd02::2")
    flow = contract.pack(
        "flow",
        source=to_bytes(ip_address(source)),
        destination=to_bytes(ip_address(destination)),
        source_port=int.from_bytes((40000).to_bytes(2, "big"), "little"),
        destination_port=int.from_bytes((80).to_bytes(2, "big"), "little"),
        protocol=6,
    )
    numbers = {
        "reason": contract.enums["reason"][reason],
        "hook": contract.enums["hook"]["HOOK_FROM_POD"],
    }
    event = contract.pack("drop_event", time=at * SECOND, flow=flow, ifindex=ifindex, **numbers)
    return contract.unpack("drop_event", event)


@pytest.mark.parametrize(
    ("family", "ends"),
    [(4, "10.1.0.9 port 40000 -> 10.2.0.2 port 80"), (6, "fd01::9 port 40000 -> fd02::2 port 80")],
)
def test_line(contract: Contract, caplog: pytest.LogCaptureFixture, family: int, ends: str) -> None:
    DropLog(contract)(drop(contract, 1, family=family))
    assert caplog.messages == [f"dropped: drop_spoofed_source at from_pod on {NO_LINK}: {ends} protocol 6"]


def test_a_link_is_told_by_its_name(contract: Contract, caplog: pytest.LogCaptureFixture) -> None:
    DropLog(contract)(drop(contract, 1, ifindex=1))
    assert "from_pod on lo:" in caplog.text


def test_at_most_one_line_in_ten_seconds(contract: Contract, caplog: pytest.LogCaptureFixture) -> None:
    log = DropLog(contract)
    for at in (1, 2, 10, 11, 12, 30):
        log(drop(contract, at))
    more = [message.partition("protocol 6")[2] for message in caplog.messages]
    assert more == ["", " (2 more like it)", " (1 more like it)"]


def test_each_reason_and_link_has_its_own_ten_seconds(
    contract: Contract, caplog: pytest.LogCaptureFixture
) -> None:
    log = DropLog(contract)
    for ifindex in (NO_LINK, NO_LINK + 1):
        for reason in ("DROP_SPOOFED_SOURCE", "DROP_NOT_IP"):
            log(drop(contract, 1, reason, ifindex))
    assert len(caplog.messages) == 4


def test_many_links_do_not_fill_the_memory(contract: Contract, caplog: pytest.LogCaptureFixture) -> None:
    log = DropLog(contract)
    for number in range(1100):
        log(drop(contract, 1, ifindex=NO_LINK + number))
    log(drop(contract, 1, ifindex=NO_LINK + 1099))
    log(drop(contract, 1, ifindex=NO_LINK))
    assert len(caplog.messages) == 1101
