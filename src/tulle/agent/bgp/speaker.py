"""Follows BGPPeers, and keeps BIRD announcing what this node has to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from tulle.agent.bgp.bird import LOG, Bird
from tulle.agent.bgp.report import BgpReport, is_silent
from tulle.agent.bgp.secrets import Passwords
from tulle.agent.settings import Settings
from tulle.errors import TulleError
from tulle.external_to_service.announce.vips import EXCLUDED
from tulle.external_to_service.bgp.config import render, symbol
from tulle.external_to_service.bgp.peers import Here, Judged, Peer, judge_all
from tulle.external_to_service.bgp.routes import Announced, Routes, read_cidrs
from tulle.external_to_service.bgp.sessions import Observed, parse
from tulle.kube.backoff import Backoff
from tulle.kube.cache import Change
from tulle.kube.client import Client
from tulle.kube.informer import Informer
from tulle.kube.resources import ANNOUNCED_POOL, BGP_PEER
from tulle.model.address import Address, from_bytes, parse_lenient
from tulle.model.announcing import AnnouncedPool
from tulle.model.bgp import BGPPeer
from tulle.model.objects import Node
from tulle.model.services import EndpointSlice, Service
from tulle.pod_to_service.tracker import owner_of

log = logging.getLogger(__name__)

_LOOK = 2.0  # seconds until BIRD is asked again
_PATIENCE = 5.0  # seconds for an answer of the API that may never come


class Bgp:
    """BIRD runs only while some BGPPeer is for this node. What cannot be right about one keeps it out, and
    none else. An API without BGPPeers, or without an answer, leaves BIRD as it is.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        nodes: Informer[Node],
        services: Informer[Service],
        slices: Informer[EndpointSlice],
    ) -> None:
        self._name = settings.node_name
        self._nodes, self._services, self._slices = nodes, services, slices
        self._peers: Informer[BGPPeer] = Informer(client, BGP_PEER)
        self._pools: Informer[AnnouncedPool] = Informer(client, ANNOUNCED_POOL)
        self._bird = Bird(settings.bgp)
        self._announced = Announced(self._name, owner_of)
        self._changed = asyncio.Event()
        self._located = asyncio.Event()
        self._own: frozenset[bytes] = frozenset()
        self._passwords = Passwords(client, self._changed.set)
        self._report = BgpReport(client, self._name, self._peers, nodes)
        self._backoff = Backoff(base=1.0)
        self._judged: dict[str, Judged] = {}
        self._asked_for_pools = False
        self._configured = False
        self._fault = ""
        self._peers.subscribe(self._peer_changed)
        self._pools.subscribe(self._pool_changed)
        nodes.subscribe(self._node_changed)
        services.subscribe(self._service_changed)
        slices.subscribe(self._slice_changed)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Adds the tasks that never return."""
        group.create_task(self._peers.run(), name="follow the BGPPeers")
        group.create_task(self._passwords.run(), name="read the passwords of BGP sessions")
        group.create_task(self._follow(group), name="keep BIRD announcing")
        group.create_task(self._report.run(), name="tell of BGP sessions")

    async def remove(self) -> None:
        """Ends what an earlier agent left running."""
        await self._bird.stop()

    def locate(self, own: frozenset[bytes]) -> None:
        """The addresses that the node itself has, 16 bytes each."""
        if own != self._own:
            self._own = own
            self._changed.set()
        self._located.set()

    def _peer_changed(self, change: Change[BGPPeer]) -> None:
        if change.old is None or change.new is None or change.old.spec != change.new.spec:
            self._changed.set()
        self._report.look()

    def _pool_changed(self, _: Change[AnnouncedPool]) -> None:
        self._announced.use_pools(self._pools.objects.values())
        self._changed.set()

    def _node_changed(self, change: Change[Node]) -> None:
        if is_silent(change.old) != is_silent(change.new):
            self._report.look()
        if change.key[1] == self._name and _relevant(change.old) != _relevant(change.new):
            self._changed.set()

    def _service_changed(self, change: Change[Service]) -> None:
        if self._announced.service_changed(change):
            self._changed.set()

    def _slice_changed(self, change: Change[EndpointSlice]) -> None:
        if self._announced.slice_changed(change):
            self._changed.set()

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        """Begins when all is known: half of it would take back what an earlier agent announced."""
        for informer in (self._peers, self._nodes, self._services, self._slices):
            await informer.synced.wait()
        await self._located.wait()
        while True:
            if self._peers.objects and not self._asked_for_pools:
                await self._ask_for_pools(group)
            self._changed.clear()
            try:
                active = await self._bring_up_to_date()
            except (TulleError, OSError) as error:
                self._fail(str(error))
                await asyncio.sleep(self._backoff.next())
            else:
                self._fault = ""
                await self._next_change(_LOOK if active else None)

    async def _ask_for_pools(self, group: asyncio.TaskGroup) -> None:
        """Nobody needs them before there is a BGPPeer. An API without the resource is not waited for."""
        self._asked_for_pools = True
        group.create_task(self._pools.run(), name="follow the LoadBalancerPools for BGP")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._pools.synced.wait()

    async def _next_change(self, patience: float | None) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._changed.wait()
        except TimeoutError:
            return

    def _fail(self, fault: str) -> None:
        if fault != self._fault:
            log.error("no BGP: %s", fault)
        self._fault = fault
        self._report.tell(self._judged, {}, fault)

    async def _bring_up_to_date(self) -> bool:
        """Whether there is something to look after."""
        node = self._nodes.objects.get(("", self._name))
        if node is None:
            return False
        judged = judge_all(self._peers.objects.values(), _here(node, self._own))
        usable, passwords, waiting = self._with_passwords(judged)
        if waiting and not self._configured:
            return False  # a session of an earlier agent would end for want of its password
        self._judged = judged
        observed: dict[str, Observed] = {}
        if usable:
            await self._bird.apply(self._config(node, usable, passwords))
            self._configured = True
            found = parse(await self._bird.ask())
            observed = {p.name: found[symbol(p.name)] for p in usable if symbol(p.name) in found}
        else:
            await self._bird.stop()
        self._report.tell(judged, observed)
        return bool(judged)

    def _config(self, node: Node, peers: Iterable[Peer], passwords: dict[str, str]) -> str:
        excluded = EXCLUDED in node.metadata.labels
        routes = Routes(
            pod_cidrs=read_cidrs(node.spec.pod_cidrs),
            load_balancers=() if excluded else self._announced.networks(),
        )
        return render(_here(node, self._own).router_id, peers, passwords, routes, LOG)

    def _with_passwords(self, judged: dict[str, Judged]) -> tuple[list[Peer], dict[str, str], bool]:
        """The peers that can be configured, with their passwords; whether others wait for the API's answer.

        Those whose password cannot be right get a problem in ``judged``.
        """
        secrets = {
            name: secret
            for name, (peer, _) in judged.items()
            if peer and (secret := self._peers.objects["", name].spec.password_secret)
        }
        self._passwords.want(secrets.values())
        passwords: dict[str, str] = {}
        waiting = False
        for name, secret in secrets.items():
            found = self._passwords.get(secret)
            if isinstance(found, str):
                passwords[name] = found
                continue
            waiting = waiting or found is None
            if found:
                judged[name] = None, (found,)
        usable = [
            peer for name, (peer, _) in judged.items() if peer and (name not in secrets or name in passwords)
        ]
        return usable, passwords, waiting


def _relevant(node: Node | None) -> object:
    return node and (node.metadata.labels, node.spec, node.status.addresses)


def _here(node: Node, own: frozenset[bytes]) -> Here:
    addresses: dict[int, Address] = {}
    for each in node.status.addresses:
        if each.type == "InternalIP" and (raw := parse_lenient(each.address)):
            address = from_bytes(raw)
            addresses.setdefault(address.version, address)
    return Here(node.metadata.name, node.metadata.labels, addresses, own)
