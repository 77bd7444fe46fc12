"""The subsets of an Endpoints object in their canonical form. Pure.

As in Kubernetes, addresses are grouped by what they all offer: each address is in one subset with all its
ports, or in several if it is ready for some of them only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from tulle.apiserver.controllers.objects import Object

LIMIT = 1000
"""Addresses in one Endpoints object."""


class Offer(NamedTuple):
    """An address that has one port; ``port`` is None for one of a Service without ports."""

    address: Object
    port: Object | None
    ready: bool


AddressKey = tuple[str, str]
PortKey = tuple[str, str, int, str]


def subsets(offers: Iterable[Offer]) -> list[Object]:
    """Sorted throughout, so that the same offers always give the same subsets.

    Of an address that is said to be ready and not ready for one port, the latter counts.
    """
    addresses: dict[AddressKey, Object] = {}
    ports: dict[PortKey, Object | None] = {}
    at_port: defaultdict[PortKey, dict[AddressKey, bool]] = defaultdict(dict)
    for offer in offers:
        key, port = _address_key(offer.address), _port_key(offer.port)
        addresses.setdefault(key, offer.address)
        ports.setdefault(port, offer.port)
        at_port[port][key] = offer.ready and at_port[port].get(key, True)
    grouped: defaultdict[frozenset[tuple[AddressKey, bool]], list[PortKey]] = defaultdict(list)
    for port, found in sorted(at_port.items()):
        grouped[frozenset(found.items())].append(port)
    made = []
    for found_at, keys in grouped.items():
        lists = {
            "addresses": [addresses[key] for key, ready in sorted(found_at) if ready],
            "notReadyAddresses": [addresses[key] for key, ready in sorted(found_at) if not ready],
            "ports": [port for port in map(ports.get, keys) if port is not None],
        }
        made.append({key: each for key, each in lists.items() if each})
    return made


def offers(found: Iterable[Object] | None) -> Iterable[Offer]:
    """The inverse: what ``found``, subsets of any form, say."""
    for subset in found or ():
        for port in subset.get("ports") or [None]:
            yield from (Offer(address, port, True) for address in subset.get("addresses") or ())
            yield from (Offer(address, port, False) for address in subset.get("notReadyAddresses") or ())


def truncated(found: list[Object], limit: int = LIMIT) -> list[Object]:
    """At most ``limit`` addresses, the ready ones first, from each subset by its share of them."""
    ready = sum(len(each.get("addresses", ())) for each in found)
    unready = sum(len(each.get("notReadyAddresses", ())) for each in found)
    if ready + unready <= limit:
        return found
    cut, total, places = (
        ("addresses", ready, limit) if ready > limit else ("notReadyAddresses", unready, limit - ready)
    )
    left, made = places, []
    for subset in found:
        share = min(left, math.ceil(len(subset.get(cut, ())) * places / total))
        left -= share
        lists = {**subset, cut: subset.get(cut, [])[:share]}
        if cut == "addresses":
            lists.pop("notReadyAddresses", None)
        made.append({key: each for key, each in lists.items() if each})
    return [each for each in made if "addresses" in each or "notReadyAddresses" in each]


def _address_key(address: Object) -> AddressKey:
    """Two Pods on their node's network share its address, and are two endpoints."""
    return address["ip"], (address.get("targetRef") or {}).get("uid", "")


def _port_key(port: Object | None) -> PortKey:
    if port is None:
        return "", "", 0, ""
    return port.get("name", ""), port.get("protocol", "TCP"), port["port"], port.get("appProtocol", "")
