"""The node's Service table for all that write into it: Services, and Pods with ports of the node.

Frees what they take out once no program can see it any more, and ends UDP sockets that are left with a
backend that is gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tulle.agent.services.sockets import end_stale, find_stale
from tulle.kernel import libc
from tulle.kube.resources import Key
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_service.entries import Entries
from tulle.pod_to_service.own import OwnAddresses
from tulle.pod_to_service.plan import Backend, PortPlan
from tulle.pod_to_service.table import PortName, Table
from tulle.pod_to_service.words import say_frontend

log = logging.getLogger(__name__)


class ServiceTable:
    """``places`` gives the network namespaces of this node by cookie, for ending sockets there.

    ``reconciled(begun, ended)`` is called when that has been done: since when, and how many were ended, by
    IP version.
    """

    def __init__(
        self,
        datapath: Datapath,
        places: Callable[[], Mapping[int, Path | None]],
        reconciled: Callable[[float, Mapping[int, int]], None],
    ) -> None:
        self.table = Table(datapath.maps, datapath.contract)
        self.own = OwnAddresses(datapath.maps["own_addresses"], datapath.contract)
        self._datapath = datapath
        self._entries = Entries(datapath.contract)
        self._places = places
        self._reconciled = reconciled
        self._garbage = asyncio.Event()
        self._moved = asyncio.Event()
        self._serving: dict[int, frozenset[Backend]] = {}
        self._gone: frozenset[Backend] = frozenset()

    def start(self, group: asyncio.TaskGroup) -> None:
        """Adds the tasks that never return."""
        group.create_task(self._collect(), name="free what the Service table lost")
        group.create_task(self._end_sockets(), name="end UDP sockets to backends that are gone")

    def apply(
        self, plans: Mapping[Key, tuple[PortPlan, ...]], gone: frozenset[Backend] = frozenset()
    ) -> None:
        """From now on it is as planned; ``gone`` take no datagrams any more. Raises ``KernelError``."""
        self.settle(self.table.apply(plans), gone)

    def settle(self, changed: Iterable[PortName], gone: frozenset[Backend] = frozenset()) -> None:
        """To be called when ``table`` has been written: what it lost, and who lost a backend, is seen to."""
        self._garbage.set()
        serving = self.table.serving(changed)
        if serving or gone:
            self._serving |= serving
            self._gone |= gone
            self._moved.set()

    def missing(self, plan: PortPlan) -> str:
        """What the kernel lacks of a plan with one backend; empty where that is in place."""
        frontends = self._datapath.maps["frontends"]
        for lead in plan.leads:
            raw = frontends.get(self._entries.frontend(lead.frontend))
            if raw is None:
                return f"the frontend {say_frontend(lead.frontend)}"
            found = self._first_backend(self._entries.read_lead(raw).inside)
            if plan.cluster and found not in plan.cluster.backends:
                return f"the backend of {say_frontend(lead.frontend)}"
        return ""

    def _first_backend(self, index: int) -> Backend | None:
        maps, number = self._datapath.maps, self._entries.number
        chosen = self._entries.read_number(maps["services"].get(number(index)) or bytes(4))
        [slot] = self._entries.slots(chosen, [0])
        raw = maps["backends"].get(slot)
        return self._entries.read_backends(raw)[0] if raw else None

    async def _end_sockets(self) -> None:
        """By itself: the table does not wait until all flows have been looked at."""
        flows, contract = self._datapath.maps["socket_flows"], self._datapath.contract
        while True:
            await self._moved.wait()
            self._moved.clear()
            serving, self._serving = self._serving, {}
            gone, self._gone = self._gone, frozenset()
            begun, ended = time.monotonic(), Counter[int]()
            stale = await asyncio.to_thread(find_stale, flows, contract, serving, gone)
            if stale:
                ended = await asyncio.to_thread(end_stale, stale, self._places())
                log.info("ended %d UDP sockets to backends that are gone", ended.total())
            self._reconciled(begun, ended)

    async def _collect(self) -> None:
        while True:
            await self._garbage.wait()
            self._garbage.clear()
            if garbage := self.table.take_garbage():
                await asyncio.to_thread(libc.await_readers)
                self.table.free(garbage)
