"""The neighbour search, against comparing each with each."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from tulle.pod_to_pod.claims import Claims


def prefix(bits: int, length: int) -> IPv4Network:
    """In a small space, so that many meet."""
    return IPv4Network((10 << 24 | bits, length), strict=False)


PREFIXES = st.lists(st.builds(prefix, st.integers(0, 255), st.integers(24, 32)), max_size=30)


@given(PREFIXES)
def test_overlapping_is_found(prefixes: list[IPv4Network]) -> None:
    claims, accepted = Claims(), []
    for each in prefixes:
        others = [other for other in accepted if other.overlaps(each)]
        found = claims.overlapping(each)
        assert (found.prefix in others) if found else not others
        if not found:
            claims.add(each, "n1")
            accepted.append(each)


def test_families_do_not_meet() -> None:
    claims = Claims()
    claims.add(ip_network("::/0"), "n1")
    assert claims.overlapping(ip_network("10.0.0.0/8")) is None
    assert claims.overlapping(ip_network("fd00::/8"))
