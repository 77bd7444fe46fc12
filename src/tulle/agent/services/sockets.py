"""Ends connected UDP sockets whose backend is no more: they would send to nobody for ever (S-66)."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Container, Mapping
from pathlib import Path

from tulle.errors import KernelError
from tulle.kernel import netns, sockdiag
from tulle.kernel.bpf_maps import Map
from tulle.kernel.btf import Contract
from tulle.kernel.netlink import Netlink
from tulle.model.address import from_bytes
from tulle.pod_to_service.entries import Entries
from tulle.pod_to_service.plan import Backend

log = logging.getLogger(__name__)

Stale = dict[int, set[Backend]]
"""By the cookie of a network namespace: backends to which its sockets are no longer to be connected."""


def find_stale(
    flows: Map,
    contract: Contract,
    serving: Mapping[int, frozenset[Backend]],
    gone: Container[Backend] = frozenset(),
) -> dict[int, Stale]:
    """Sockets by cookie of their namespace and their own, with the backend that they must leave.

    ``serving``: by index in ``services``, who may keep what it has (S-65). ``gone``: backends that nobody may
    keep.
    """
    entries, sends = Entries(contract), contract.enums["socket_direction"]["SOCKET_SENDS"]
    read_key, read_flow = contract.layout("socket_flow_key").unpack, contract.layout("socket_flow").unpack
    found: defaultdict[int, Stale] = defaultdict(lambda: defaultdict(set))
    for raw_key, raw in flows.items(contract.layout("socket_flow_key").size).items():
        netns_cookie, peer, service, *_ = read_flow(raw)
        if not gone and service not in serving:
            continue
        cookie, _, direction = read_key(raw_key)
        [backend] = entries.read_backends(peer)
        kept = backend not in gone and (service not in serving or backend in serving[service])
        if direction == sends and not kept:
            found[netns_cookie][cookie].add(backend)
    return dict(found)


def end_stale(stale: Mapping[int, Stale], places: Mapping[int, Path | None]) -> Counter[int]:
    """Ends them, namespace by namespace; returns how many, by their backends' IP version (4 or 6).

    ``places``: None for our own namespace.

    Blocks: for a thread. What cannot be done is logged; nothing else waits for it.
    """
    ended: Counter[int] = Counter()
    for cookie, sockets in stale.items():
        if cookie not in places:
            continue  # the Pod is gone, and its sockets with it
        try:
            ended += _end_in(places[cookie], sockets)
        except (OSError, KernelError) as error:
            log.warning("UDP sockets to backends that are gone stay open: %s", error)
    return ended


def _end_in(place: Path | None, sockets: Stale) -> Counter[int]:
    if place is None:
        return _end_here(sockets)
    with netns.entered(place):
        return _end_here(sockets)


def _end_here(sockets: Stale) -> Counter[int]:
    with Netlink(family=sockdiag.NETLINK_SOCK_DIAG) as netlink:
        ended = [
            each
            for each in sockdiag.connected_udp(netlink)
            if Backend(each.peer, each.port) in sockets.get(each.cookie, ())
        ]
        sockdiag.destroy_udp(netlink, ended)
    return Counter(from_bytes(each.peer).version for each in ended)
