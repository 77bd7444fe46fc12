"""The names of the Leases, what is read of them, and the frames that a new holder sends."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.external_to_service.announce.frames import gratuitous, solicited_node
from tulle.external_to_service.announce.leases import (
    Record,
    address_of,
    beat_name,
    change,
    creation,
    grant_name,
    node_of,
    read,
)
from tulle.model.address import Address
from tulle.model.announcing import Lease, LeaseSpec
from tulle.model.objects import ObjectMeta

MAC = bytes.fromhex("0a0000000111")


@given(st.ip_addresses())
def test_names_of_grants(address: Address) -> None:
    """A Lease's name has no dots or colons in a row, and is not longer than 253 (RFC 1123)."""
    name = grant_name(address)
    assert address_of(name) == address
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and name[-1].isalnum()


def test_what_is_no_grant() -> None:
    for name in ("tulle-l2-node-a", "tulle-l2-ip-1-2", "tulle-l2-ip-x", "kube-scheduler"):
        assert address_of(name) is None


def test_names_of_beats() -> None:
    assert beat_name("node-1.example") == "tulle-l2-node-node-1.example"
    long = "n" * 250
    assert len(beat_name(long)) == 253 and beat_name(long) != beat_name(long + "x")
    assert node_of("node-1.example_0a") == "node-1.example" and node_of("") == ""


def lease(name: str, version: str = "7", holder: str | None = "a_1") -> Lease:
    return Lease(ObjectMeta(name, resource_version=version), LeaseSpec(holder, 2))


@pytest.mark.parametrize("other", [lease("kube-scheduler"), lease("tulle-l2-node-a", "seven")])
def test_what_is_not_ours(other: Lease) -> None:
    assert read(other) is None


def test_what_is() -> None:
    assert read(lease("tulle-l2-node-a")) == Record("tulle-l2-node-a", 7, "a_1", 2)
    assert read(lease("tulle-l2-node-a", holder=None)) == Record("tulle-l2-node-a", 7, "", 2)


def test_what_is_written() -> None:
    made = creation("tulle-l2-node-a", "a_1", 0, "now", "1-2-3")
    [owner] = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Node", "a", "1-2-3")
    assert made["metadata"]["labels"] == {"tulle.dev/l2": "node"}
    assert made["spec"]["holderIdentity"] == "a_1" and made["spec"]["leaseDurationSeconds"] == 2
    assert creation("tulle-l2-ip-192-0-2-7", "a_1", 0, "now")["metadata"]["labels"] == {"tulle.dev/l2": "ip"}
    given_up = change(7, "", 3, "now")
    assert given_up == {
        "metadata": {"resourceVersion": "7"},
        "spec": {"holderIdentity": "", "leaseTransitions": 3},
    }


def test_gratuitous_arp() -> None:
    """RFC 5227, section 3: sender and target are the address."""
    address = ip_address("192.0.2.7")
    for operation, frame in zip((1, 2), gratuitous(address, MAC), strict=True):
        assert frame[:14] == b"\xff" * 6 + MAC + b"\x08\x06"
        assert struct.unpack_from("!HHBBH", frame, 14) == (1, 0x0800, 6, 4, operation)
        assert (frame[22:28], frame[28:32], frame[38:42]) == (MAC, address.packed, address.packed)
        assert len(frame) == 42


def test_unsolicited_advertisement() -> None:
    """RFC 4861, sections 4.4 and 7.2.6."""
    address = IPv6Address("2001:db8::7")
    [frame] = gratuitous(address, MAC)
    assert frame[:14] == bytes.fromhex("333300000001") + MAC + b"\x86\xdd"
    version, length, protocol, hops = struct.unpack_from("!IHBB", frame, 14)
    assert (version >> 28, length, protocol, hops, len(frame)) == (6, 32, 58, 255, 86)
    assert frame[22:54] == address.packed + IPv6Address("ff02::1").packed
    assert struct.unpack_from("!BB", frame, 54) == (136, 0)
    assert struct.unpack_from("!I", frame, 58) == (0x20000000,)
    assert frame[62:] == address.packed + b"\x02\x01" + MAC
    summed = frame[22:54] + struct.pack("!II", 32, 58) + frame[54:]
    assert sum(struct.unpack("!36H", summed)) % 0xFFFF == 0


def test_the_group_that_is_asked() -> None:
    assert solicited_node(IPv6Address("2001:db8::12:3456")) == IPv6Address("ff02::1:ff12:3456")
