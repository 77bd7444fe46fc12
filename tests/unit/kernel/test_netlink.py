"""The netlink wire format. That the kernel reads it the same way: ``tests/netns/test_rtnetlink.py``."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.kernel.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Request, attribute, parse_attributes
from tulle.kernel.rtnetlink import add_veth, format_mac, parse_link
from tulle.model.address import from_bytes, to_bytes

MAC, PEER_MAC = bytes.fromhex("0274756c6c65"), bytes.fromhex("0a0000000001")


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40), max_size=6))
def test_attributes_come_back(attributes: dict[int, bytes]) -> None:
    wire = b"".join(attribute(kind, value) for kind, value in attributes.items())
    assert len(wire) % 4 == 0
    assert parse_attributes(wire) == attributes


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (7, struct.pack("=I", 7)),
        ("eth0", b"eth0\0"),
        (b"\1", b"\1"),
        (ip_address("10.0.0.1"), b"\x0a\0\0\1"),
        (ip_address("fe80::1"), b"\xfe\x80" + bytes(13) + b"\1"),
    ],
)
def test_kinds_of_values(value: object, wire: bytes) -> None:
    encoded = attribute(3, value)  # type: ignore[arg-type]
    assert encoded[:4] == struct.pack("=HH", 4 + len(wire), 3)
    assert encoded[4:].rstrip(b"\0") == wire.rstrip(b"\0")
    assert len(encoded) % 4 == 0


def test_flags_in_an_attributes_kind_are_not_its_kind() -> None:
    nested, byte_order = 0x8000, 0x4000
    assert parse_attributes(attribute(nested | 18, b"x") + attribute(byte_order | 3, b"y")) == {
        18: b"x",
        3: b"y",
    }


@given(st.binary(max_size=64))
def test_any_bytes_end(data: bytes) -> None:
    parse_attributes(data)


@pytest.mark.parametrize(("acknowledge", "sent"), [(True, NLM_F_ACK), (False, 0)])
def test_request(acknowledge: bool, sent: int) -> None:
    encoded = Request(16, NLM_F_DUMP, b"abcde", "").encode(7, acknowledge)
    assert struct.unpack_from("=IHHII", encoded) == (21, 16, NLM_F_DUMP | sent | NLM_F_REQUEST, 7, 0)
    assert encoded[16:] == b"abcde\0\0\0"


def test_link_comes_back() -> None:
    link = parse_link(add_veth("tul1", MAC, "eth0", PEER_MAC, 5, 1450).body)
    assert (link.name, format_mac(link.mac), link.mtu) == ("tul1", "02:74:75:6c:6c:65", 1450)
    assert (link.kind, link.alias, link.index) == ("veth", "", 0)


@given(st.ip_addresses())
def test_addresses_of_the_maps_come_back(address: object) -> None:
    raw = to_bytes(address)  # type: ignore[arg-type]
    assert len(raw) == 16
    if not raw.startswith(bytes(10) + b"\xff\xff") or address.version == 4:  # type: ignore[attr-defined]
        assert from_bytes(raw) == address
