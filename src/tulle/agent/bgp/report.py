"""What operators read of BGP sessions: the status of BGPPeers, and Events on them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Literal

from tulle.errors import ApiError, ApiUnreachable, Conflict, NotFound
from tulle.external_to_service.bgp.peers import Judged
from tulle.external_to_service.bgp.sessions import Observed, judge_sessions
from tulle.external_to_service.bgp.status import UP, news, patch
from tulle.kube.client import Client
from tulle.kube.events import stamp, tell
from tulle.kube.informer import Informer
from tulle.kube.resources import BGP_PEER
from tulle.model.bgp import DOWN, UNKNOWN, BGPPeer, Session
from tulle.model.objects import Node

log = logging.getLogger(__name__)

_GRACE = 5.0  # seconds in which a session may come up before it is called down


class BgpReport:
    """Is told what there is, and says what is new in a task of its own: BIRD does not wait for the API."""

    def __init__(self, client: Client, node: str, peers: Informer[BGPPeer], nodes: Informer[Node]) -> None:
        self._client = client
        self._node = node
        self._peers, self._nodes = peers, nodes
        self._sessions: dict[str, Session] = {}
        self._said: dict[str, Session] = {}
        self._began: dict[str, float] = {}
        self._marked: set[tuple[str, str]] = set()
        self._known = False
        self._failing = False
        self._due = asyncio.Event()

    def look(self) -> None:
        """An object changed: it may have to be written again."""
        self._due.set()

    def tell(self, judged: Mapping[str, Judged], observed: Mapping[str, Observed], fault: str = "") -> None:
        """What there is now, by the BGPPeer's name. ``fault``: why there is no BIRD at all."""
        self._sessions = judge_sessions(judged, observed, fault, self._sessions or self._last(), stamp())
        self._known = True
        self._due.set()

    def _last(self) -> dict[str, Session]:
        """What an earlier agent of this node said."""
        found = {name: self._entry(peer) for (_, name), peer in self._peers.objects.items()}
        return {name: session for name, session in found.items() if session}

    def _entry(self, peer: BGPPeer) -> Session | None:
        return (peer.status.sessions or {}).get(self._node)

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self._known:
                for (_, name), peer in list(self._peers.objects.items()):
                    await self._tell_one(name, peer)
                self._forget_gone()

    def _forget_gone(self) -> None:
        """A BGPPeer that comes again under a name begins anew."""
        for known in (self._said, self._began):
            for name in [name for name in known if ("", name) not in self._peers.objects]:
                del known[name]

    async def _tell_one(self, name: str, peer: BGPPeer) -> None:
        session = self._sessions.get(name)
        before = self._said.get(name) or self._entry(peer)
        if session and before is None and self._may_come_up(name, session):
            return
        if session is None:
            self._said.pop(name, None)
            self._began.pop(name, None)
        else:
            if event := news(before, session):
                await self._event(name, peer, *event)
            self._said[name] = session
        await self._write(name, peer, session)

    def _may_come_up(self, name: str, session: Session) -> bool:
        """One that has only begun is not called down yet; the next look is soon."""
        began = self._began.setdefault(name, time.monotonic())
        return session.state == DOWN and time.monotonic() - began < _GRACE

    async def _event(self, name: str, peer: BGPPeer, reason: str, message: str) -> None:
        normal = reason == UP
        level = logging.INFO if normal else logging.WARNING
        log.log(level, "BGPPeer %s: %s", name, message)
        about = {"apiVersion": "tulle.dev/v1", "kind": "BGPPeer", "name": name, "uid": peer.metadata.uid}
        words = f"node {self._node}: {message}"
        kind: Literal["Normal", "Warning"] = "Normal" if normal else "Warning"
        await tell(self._client, about, reason, words, component="tulle-agent", host=self._node, kind=kind)

    def _unheard(self, name: str, peer: BGPPeer) -> set[str]:
        """Silent nodes of which that was not said yet. Once is enough: where only the kubelet is silent, the
        agent goes on to say how its session is.
        """
        silent = {node for (_, node), found in self._nodes.objects.items() if is_silent(found)}
        said = {node for node, each in (peer.status.sessions or {}).items() if each.state == UNKNOWN}
        self._marked = {each for each in self._marked if each[1] in silent}
        self._marked |= {(name, node) for node in said & silent}
        return {node for node in silent if (name, node) not in self._marked}

    async def _write(self, name: str, peer: BGPPeer, session: Session | None) -> None:
        nodes = {node for _, node in self._nodes.objects}
        wanted = patch(peer, self._node, session, nodes, stamp(), self._unheard(name, peer))
        if wanted is None:
            return
        try:
            await self._client.patch(BGP_PEER, name, wanted, subresource="status")
            self._failing = False
        except (Conflict, NotFound):
            return  # what is newer is on its way here, and is looked at then
        except (ApiError, ApiUnreachable) as error:
            log.log(logging.DEBUG if self._failing else logging.WARNING, "status of BGPPeers: %s", error)
            self._failing = True


def is_silent(node: Node | None) -> bool:
    """Whether the control plane hears nothing of it: nobody can say how it is."""
    conditions = node.status.conditions if node else ()
    return any(each.type == "Ready" and each.status == "Unknown" for each in conditions)
