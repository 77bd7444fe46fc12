"""Which prefixes one node announces: its Pod CIDRs, and load balancers' addresses that it has endpoints for.

A router spreads clients over all nodes that announce an address (ECMP). So a node announces one when it has
an endpoint itself: a ready one, or, where no node has any ready one, one that still serves while it ends.
That holds for both traffic policies; a node without an endpoint would only be a detour. Endpoints without a
node, outside of the cluster, are reached from each node, but with ``externalTrafficPolicy: Local`` from none.

A LoadBalancerPool that announces by ``BGP`` must hold the address: whoever else gives Services addresses has
ways of its own to lead clients there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntFlag
from ipaddress import ip_network

from tulle.external_to_service.announce.vips import addresses_of
from tulle.external_to_service.announce.ways import BGP, Way, is_given, way
from tulle.kube.cache import Change
from tulle.kube.resources import Key
from tulle.model.address import Network, host_network
from tulle.model.announcing import AnnouncedPool
from tulle.model.bgp import LOAD_BALANCERS
from tulle.model.services import FAMILIES, Endpoint, EndpointSlice, Service


@dataclass(frozen=True, slots=True)
class Routes:
    """Sorted, without duplicates, both families."""

    pod_cidrs: tuple[Network, ...] = ()
    load_balancers: tuple[Network, ...] = ()

    def of(self, kind: str, version: int) -> tuple[Network, ...]:
        """``kind`` as in ``spec.announce``."""
        chosen = self.load_balancers if kind == LOAD_BALANCERS else self.pod_cidrs
        return tuple(prefix for prefix in chosen if prefix.version == version)


def sort(networks: Iterable[Network]) -> tuple[Network, ...]:
    """In an order that does not depend on where they come from."""
    return tuple(sorted(set(networks), key=lambda n: (n.version, int(n.network_address), n.prefixlen)))


def read_cidrs(texts: Iterable[str]) -> tuple[Network, ...]:
    """What cannot be read is left out: it is told on the Node."""
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ip_network(text))
        except ValueError:
            continue
    return sort(found)


class _Seen(IntFlag):
    """What there is among the endpoints of one family."""

    READY_HERE = 1
    READY_ELSEWHERE = 2
    READY_FREE = 4
    LEAVING_HERE = 8
    LEAVING_FREE = 16


@dataclass(frozen=True, slots=True)
class _Balanced:
    """A Service of type LoadBalancer that has addresses."""

    addresses: tuple[Network, ...]
    local: bool
    given: bool


class Announced:
    """Load balancers' addresses that ``node`` should announce. Tell it each change; ``owner_of`` says whose a
    slice is, None if it is not for us.
    """

    def __init__(self, node: str, owner_of: Callable[[EndpointSlice], Key | None]) -> None:
        self._node = node
        self._owner_of = owner_of
        self._services: dict[Key, _Balanced] = {}
        self._slices: dict[Key, dict[str, tuple[int, _Seen]]] = {}
        self._announced: dict[Key, frozenset[Network]] = {}
        self._way = Way()

    def networks(self) -> tuple[Network, ...]:
        """Now. An address that several Services share is announced when one of them needs it."""
        return sort(
            network
            for key, networks in self._announced.items()
            for network in networks
            if self._way.has(network.network_address, self._services[key].given)
        )

    def use_pools(self, pools: Iterable[AnnouncedPool]) -> None:
        """These there are; before, there is none."""
        self._way = way(pools, BGP)

    def service_changed(self, change: Change[Service]) -> bool:
        """Whether ``networks`` may be others now."""
        balanced = _read_service(change.new) if change.new else None
        if balanced is None:
            self._services.pop(change.key, None)
        else:
            self._services[change.key] = balanced
        return self._update(change.key)

    def slice_changed(self, change: Change[EndpointSlice]) -> bool:
        """The same."""
        before = self._owner_of(change.old) if change.old else None
        after = self._owner_of(change.new) if change.new else None
        if before and before != after:
            self._forget(before, change.key[1])
        if after and change.new:
            self._put(after, change.key[1], change.new)
        changed = [self._update(owner) for owner in {before, after} if owner]
        return any(changed)

    def _put(self, owner: Key, name: str, each: EndpointSlice) -> None:
        family = FAMILIES.get(each.address_type)
        if family is None:
            self._forget(owner, name)
            return
        seen = _Seen(0)
        for endpoint in each.endpoints or ():
            seen |= _see(endpoint, self._node)
        self._slices.setdefault(owner, {})[name] = family, seen

    def _forget(self, owner: Key, name: str) -> None:
        slices = self._slices.get(owner, {})
        slices.pop(name, None)
        if not slices:
            self._slices.pop(owner, None)

    def _update(self, key: Key) -> bool:
        before = self._announced.pop(key, frozenset())
        now = frozenset(self._plan(key))
        if now:
            self._announced[key] = now
        return now != before

    def _plan(self, key: Key) -> Iterable[Network]:
        if balanced := self._services.get(key):
            seen = {4: _Seen(0), 6: _Seen(0)}
            for family, flags in self._slices.get(key, {}).values():
                seen[family] |= flags
            for network in balanced.addresses:
                if _reaches(seen[network.version], balanced.local):
                    yield network


def _read_service(service: Service) -> _Balanced | None:
    """S-01, S-02, S-24, S-75: what the nodes' own table serves, too."""
    spec, labels = service.spec, service.metadata.labels
    foreign = labels is not None and labels.proxy_name is not None
    if foreign or spec.cluster_ip == "None":
        return None
    addresses = sort(map(host_network, addresses_of(service)))
    local = spec.external_traffic_policy == "Local"
    return _Balanced(addresses, local, is_given(service)) if addresses else None


def _see(endpoint: Endpoint, node: str) -> _Seen:
    """With the defaults of S-10."""
    conditions = endpoint.conditions
    if not endpoint.addresses:
        return _Seen(0)
    here, free = endpoint.node_name == node, not endpoint.node_name
    if conditions.ready is not False:
        return _Seen.READY_HERE if here else _Seen.READY_FREE if free else _Seen.READY_ELSEWHERE
    if conditions.serving is not False and conditions.terminating is True:
        return _Seen.LEAVING_HERE if here else _Seen.LEAVING_FREE if free else _Seen(0)
    return _Seen(0)


def _reaches(seen: _Seen, local: bool) -> bool:
    free = _Seen(0) if local else _Seen.READY_FREE
    if seen & (_Seen.READY_HERE | _Seen.READY_ELSEWHERE | free):
        return bool(seen & (_Seen.READY_HERE | free))
    return bool(seen & (_Seen.LEAVING_HERE | (_Seen(0) if local else _Seen.LEAVING_FREE)))
