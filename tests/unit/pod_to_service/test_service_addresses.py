"""Addresses as they are written (S-13), and which of them lead to one machine."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.model.address import parse_lenient, to_bytes
from tulle.pod_to_service.addresses import read_address


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("010.000.00.01", "10.0.0.1"),
        ("192.168.0.010", "192.168.0.10"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:010.0.0.01", "10.0.0.1"),
        ("::ffff:a00:1", "10.0.0.1"),
        ("fd00::0001", "fd00::1"),
        ("fd00:00000::00001", "fd00::1"),
        ("FD00:0:0:0:0:0:0:1", "fd00::1"),
        ("64:ff9b::010.0.0.1", "64:ff9b::a00:1"),
        ("::", "::"),
    ],
)
def test_lenient_and_then_canonical(text: str, canonical: str) -> None:
    assert parse_lenient(text) == to_bytes(ip_address(canonical))


NO_IPV4 = (
    "",
    "None",
    "10.0.0",
    "10.0.0.256",
    "10.0.0.1.2",
    "0x0a.0.0.1",
    "10.0.0.1 ",
    "10.0.0.1\0",
    "1..2.3",
)
NO_IPV6 = (":", ":::", "1::2::3", "fd00::1/64", "fe80::1%eth0", "fd00::12345", "10.0.0.1:80", "::ffff:10.0.0")


@pytest.mark.parametrize("text", [*NO_IPV4, *NO_IPV6, "-1.0.0.1", "١.0.0.1"])
def test_what_is_no_address(text: str) -> None:
    assert parse_lenient(text) is None


@given(st.ip_addresses())
def test_every_address_is_read_as_what_it_is(address: IPv4Address | IPv6Address) -> None:
    assert parse_lenient(str(address)) == to_bytes(address)
    assert parse_lenient(address.exploded) == to_bytes(address)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    read_address(text)


@pytest.mark.parametrize(
    ("text", "wanted", "said"),
    [
        ("10.0.0.300", None, "'10.0.0.300' is no IP address"),
        ("fd00::1", 4, "'fd00::1' is not an IPv4 address"),
        ("::ffff:10.0.0.1", 6, "is not an IPv6 address"),
        *(
            (text, None, "loopback, link-local or multicast")
            for text in ("0.0.0.0", "127.0.0.1", "169.254.1.1")
        ),
        *((text, None, "unspecified") for text in ("224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1")),
        ("ff02::1", None, "multicast"),
        ("febf::1", None, "link-local"),
        *(
            (text, None, "")
            for text in ("169.253.0.1", "240.0.0.1", "::2", "fec0::1", "64:ff9b::1", "1.0.0.1")
        ),
    ],
)
def test_what_leads_to_no_one_machine(text: str, wanted: int | None, said: str) -> None:
    raw, wrong = read_address(text, wanted)
    assert said in wrong
    assert bool(raw) == (not said)
