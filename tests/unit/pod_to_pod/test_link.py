from __future__ import annotations

from ipaddress import ip_address

import pytest

from tulle.kernel.rtnetlink import SCOPE_LINK, SCOPE_UNIVERSE
from tulle.pod_to_pod.link import link_local, pod_route


@pytest.mark.parametrize(
    ("mac", "expected"),
    [
        ("34:56:78:9a:bc:de", "fe80::3656:78ff:fe9a:bcde"),  # the example of RFC 4291, appendix A
        ("02:00:00:00:00:00", "fe80::ff:fe00:0"),
        ("0a:00:00:00:00:01", "fe80::800:ff:fe00:1"),
    ],
)
def test_link_local_is_the_modified_eui64(mac: str, expected: str) -> None:
    assert str(link_local(mac)) == expected


def test_the_node_speaks_to_a_pod_with_its_own_address() -> None:
    node = ip_address("192.168.0.1"), ip_address("fd00::1")
    four, six = (pod_route(ip_address(a), 7, node) for a in ("10.1.0.2", "fd01::2"))
    assert (str(four.destination), four.oif, four.source, four.scope) == (
        "10.1.0.2/32",
        7,
        node[0],
        SCOPE_LINK,
    )
    assert (str(six.destination), six.source, six.scope) == ("fd01::2/128", node[1], SCOPE_UNIVERSE)
    assert pod_route(ip_address("10.1.0.2"), 7, node[1:]).source is None
