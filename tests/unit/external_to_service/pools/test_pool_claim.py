"""What a Service asks for."""

from __future__ import annotations

from typing import Any

import pytest
from pool_objects import addresses, claim, service

from tulle.external_to_service.pools.claim import ADDRESSES, SHARE, is_ours

DUAL = {"ip_families": ("IPv6", "IPv4"), "ip_family_policy": "PreferDualStack"}


@pytest.mark.parametrize(
    ("field", "annotation", "spec", "requested", "flaw"),
    [
        ("", "", {}, (), ""),
        ("203.0.113.7", "", {}, ("203.0.113.7",), ""),
        ("203.0.113.7", "203.0.113.8", {}, ("203.0.113.8",), ""),
        ("203.0.113.7", " ", {}, ("203.0.113.7",), ""),
        ("", "203.0.113.8, 2001:db8::1,", DUAL, ("203.0.113.8", "2001:db8::1"), ""),
        ("", "2001:db8::1", DUAL, ("2001:db8::1",), ""),
        ("web.example", "", {}, (), "spec.loadBalancerIP: 'web.example' is no IP address"),
        ("", "203.0.113.8;203.0.113.9", {}, (), f"annotation {ADDRESSES}: '203.0.113.8;203.0.113.9' is no"),
        ("", "fe80::1%eth0", DUAL, (), "is no IP address"),
        ("", "203.0.113.8,203.0.113.9", {}, ("203.0.113.8", "203.0.113.9"), "at most one address of each"),
        ("2001:db8::1", "", {}, ("2001:db8::1",), "2001:db8::1 is asked for, but spec.ipFamilies has only"),
    ],
)
def test_requests(
    field: str, annotation: str, spec: dict[str, Any], requested: tuple[str, ...], flaw: str
) -> None:
    found = claim(annotations={ADDRESSES: annotation}, load_balancer_ip=field, **spec)
    assert found.requested == addresses(*requested)
    assert flaw in found.flaw and bool(flaw) == bool(found.flaw)


def test_families_keep_their_order() -> None:
    assert claim(**DUAL).versions == (6, 4)
    assert claim(ip_families=None).versions == (4,)


@pytest.mark.parametrize(
    ("spec", "plain", "strict"),
    [
        ({}, True, False),
        ({"load_balancer_class": ""}, True, False),
        ({"load_balancer_class": "tulle.dev/lb"}, True, True),
        ({"load_balancer_class": "example.com/other"}, False, False),
        ({"type": "NodePort"}, False, False),
    ],
)
def test_s75_which_services_are_ours(spec: dict[str, Any], plain: bool, strict: bool) -> None:
    found = service(**spec)
    assert (is_ours(found, False), is_ours(found, True)) == (plain, strict)


@pytest.mark.parametrize(
    ("first", "second", "may"),
    [
        ({}, {}, True),
        ({"share": "other"}, {}, False),
        ({"share": ""}, {"share": ""}, False),
        ({"ports": (80, 443)}, {"ports": (443,)}, False),
        ({"external_traffic_policy": "Local"}, {}, False),
        ({"external_traffic_policy": "Local", "selector": {"a": "b"}}, {"selector": {"a": "b"}}, True),
        ({"external_traffic_policy": "Local", "selector": {"a": "b"}}, {"selector": {"a": "c"}}, False),
    ],
)
def test_who_may_share(first: dict[str, Any], second: dict[str, Any], may: bool) -> None:
    def made(name: str, fields: dict[str, Any]) -> Any:
        share = {SHARE: fields.pop("share", "key")}
        return claim(name, annotations=share, **fields)

    one, other = made("a", {"ports": (80,), **first}), made("b", {"ports": (81,), **second})
    assert (one.may_share_with(other), other.may_share_with(one)) == (may, may)
