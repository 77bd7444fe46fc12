"""Ports of the node that lead to Pods: from a Pod's record into the kernel, and what is told of it (N-10)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress

import msgspec

from tulle.agent import cni
from tulle.agent.host_ports.node_ports import NodePorts
from tulle.agent.host_ports.plan import plan_host_ports, reserved, table_key, udp_ends
from tulle.agent.host_ports.problems import as_problems, find_faults, find_rivals, taken, unwritten
from tulle.agent.report import REST, Reporter
from tulle.agent.services.table import ServiceTable
from tulle.errors import CniError, KernelError
from tulle.external_to_service.host_port_claims import Claims, Entry, entries
from tulle.external_to_service.host_ports import Asked, Fault, read_pod
from tulle.kube.cache import Change
from tulle.kube.informer import Informer
from tulle.kube.resources import Key
from tulle.model.host_ports import HostPort
from tulle.model.objects import Pod
from tulle.model.services import Service
from tulle.pod_to_pod.store import Attachment, AttachmentStore
from tulle.pod_to_service.plan import Frontend, Problem

log = logging.getLogger(__name__)

_MIRROR = "kubernetes.io/config.mirror"
"""The annotation by which the API's copy of a static Pod names the UID that the runtime knows."""
_Owner = tuple[str, str]
_RETRY = 5.0  # seconds until what the kernel did not take is written again


class HostPorts:
    """The host ports of this node's Pods; whoever came first has a port.

    What the runtime asks for is a matter of ADD, which fails on a conflict. What only the Pod's spec says is
    served as far as it can be, and the rest is told in Events on the Pod. ``reserve`` is told of those that
    have an address of their own, whenever there are others.
    """

    def __init__(
        self,
        store: AttachmentStore,
        table: ServiceTable,
        pods: Informer[Pod],
        services: Informer[Service],
        reporter: Reporter,
        reserve: Callable[[Mapping[Frontend, str]], None],
    ) -> None:
        self._store = store
        self._table = table
        self._pods = pods
        self._reporter = reporter
        self._reserve = reserve
        self._claims = Claims()
        self._known: dict[_Owner, Attachment] = {}
        self._refused: dict[_Owner, tuple[Fault, ...]] = {}
        self._unwritten: dict[_Owner, Fault] = {}
        self._own: frozenset[bytes] = frozenset()
        self._asking: set[Key] = set()
        self._ask = asyncio.Event()
        self._news = asyncio.Event()
        self._node_ports = NodePorts(services, self._news.set)
        pods.subscribe(self._pod_changed)

    def start(self, group: asyncio.TaskGroup, on_pod: Callable[[str, str], Awaitable[None]]) -> None:
        """Adds the tasks that never return. ``on_pod(namespace, name)`` opens anew what such a Pod has."""
        group.create_task(self._follow(on_pod), name="open the host ports that Pods' specs name")
        group.create_task(self._tell(), name="tell of host ports that cannot be right")

    def locate(self, own: frozenset[bytes]) -> None:
        """The addresses that this node itself has, 16 bytes each."""
        if own != self._own:
            self._own = own
            self._news.set()

    def claim(self, attachment: Attachment) -> None:
        """Nobody else may have its host ports from now on. Raises ``CniError``, which names who has one."""
        for port in attachment.host_ports:
            if other := self._holder(attachment, port):
                raise CniError(cni.PORT_TAKEN, f"{port.field}.hostPort: {taken(port, other)}")
        self._claims.take(attachment.key, _entries(attachment))
        self._known[attachment.key] = attachment

    def open(self, attachment: Attachment) -> Attachment:
        """The kernel leads there from now on; also to what only the Pod's spec says, as far as that is known.

        Returns the record with that. Raises ``KernelError``, ``OSError``.
        """
        if asked := self._asked_by_pod(attachment):
            granted = self._grant(attachment, asked)
            if granted != attachment.host_ports:
                attachment = msgspec.structs.replace(attachment, host_ports=granted)
                self._known[attachment.key] = attachment
                self._store.add(attachment)
        if attachment.host_ports:
            self._write(attachment)
            self._reserve(reserved(self._known.values()))
        if attachment.host_ports or attachment.key in self._refused:
            self._news.set()
        return attachment

    def _write(self, attachment: Attachment) -> None:
        """What the runtime asked for is there, or ADD fails; what the spec asks for is tried again."""
        try:
            self._table.apply({table_key(attachment): plan_host_ports(attachment)})
            self._unwritten.pop(attachment.key, None)
        except KernelError as error:
            if attachment.mapped:
                raise
            if attachment.key not in self._unwritten:
                self._ask.set()
            self._unwritten[attachment.key] = unwritten(attachment.host_ports[0], error)

    def _asked_by_pod(self, attachment: Attachment) -> Asked | None:
        """Of the interfaces of a Pod, the first one is what its spec means."""
        pod = self._pods.objects.get((attachment.namespace, attachment.pod))
        if attachment.mapped or pod is None or not _is_of(pod, attachment):
            return None
        first = next(a for a in self._store if a.container_id == attachment.container_id)
        return read_pod(pod) if first.key == attachment.key else None

    def _grant(self, attachment: Attachment, asked: Asked) -> tuple[HostPort, ...]:
        """What is free of it, and what it has already: a Pod's ports never change."""
        faults, granted = list(asked.faults), list(attachment.host_ports)
        for port in asked.ports:
            if other := self._holder(attachment, port):
                faults.append(Fault(f"{port.field}.hostPort", taken(port, other)))
            elif port not in granted:
                granted.append(port)
                self._claims.take(attachment.key, entries(port, attachment.addresses))
        self._refused.pop(attachment.key, None)
        if faults:
            self._refused[attachment.key] = tuple(faults)
        return tuple(granted)

    def restore(self) -> None:
        """Once, at the start: what records say, which an earlier agent opened; and perhaps did not close."""
        for attachment in sorted(self._store, key=lambda a: a.deleted):
            try:
                self.claim(attachment)
                self.open(attachment)
                if attachment.deleted:
                    self.close(attachment)
            except (CniError, KernelError) as error:
                log.error("host ports of %s: %s", attachment.owner, error)

    def close(self, attachment: Attachment) -> None:
        """Nobody is led there any more, and others may have the ports. Closing twice does no harm."""
        known = self._known.pop(attachment.key, None)
        if self._refused.pop(attachment.key, None):
            self._news.set()
        self._unwritten.pop(attachment.key, None)
        if known is None or not known.host_ports:
            return
        try:
            self._table.apply({table_key(known): ()}, gone=udp_ends(known))
        except KernelError as error:
            log.error("host ports of %s: %s", known.owner, error)
        self._claims.give_up(known.key, _entries(known))
        self._reserve(reserved(self._known.values()))
        self._news.set()
        for waiting in self._refused:
            self._ask_again((self._known[waiting].namespace, self._known[waiting].pod))

    def inspect(self, attachment: Attachment) -> str:
        """What is missing in the kernel; empty when nothing is."""
        missing = (self._table.missing(plan) for plan in plan_host_ports(attachment))
        return next(filter(None, missing), "")

    def _holder(self, attachment: Attachment, port: HostPort) -> Attachment | None:
        key = self._claims.holder(attachment.key, entries(port, attachment.addresses))
        return self._known[key] if key else None

    def _pod_changed(self, change: Change[Pod]) -> None:
        pod = change.new
        if pod and (change.old is None or change.old.metadata.uid != pod.metadata.uid) and any(read_pod(pod)):
            self._ask_again(change.key)

    def _ask_again(self, pod: Key) -> None:
        self._asking.add(pod)
        self._ask.set()

    async def _follow(self, on_pod: Callable[[str, str], Awaitable[None]]) -> None:
        while True:
            await self._next_question()
            asking, self._asking = self._asking, set()
            asking |= {(self._known[each].namespace, self._known[each].pod) for each in self._unwritten}
            for key in sorted(asking):
                await on_pod(*key)

    async def _next_question(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETRY if self._unwritten else None):
                await self._ask.wait()
        self._ask.clear()

    async def _tell(self) -> None:
        """By itself: no CNI call waits for an API that hangs."""
        while True:
            await self._news.wait()
            self._news.clear()
            known = list(self._known.values())
            problems = [p for attachment in known for p in self._problems(attachment)]
            if not await self._reporter.objects(problems):
                await asyncio.sleep(REST)
                self._news.set()

    def _problems(self, attachment: Attachment) -> Iterable[Problem]:
        pod = self._pods.objects.get((attachment.namespace, attachment.pod))
        faults = [*self._refused.get(attachment.key, ()), *find_faults(attachment, self._own)]
        faults += [self._unwritten[attachment.key]] if attachment.key in self._unwritten else []
        return as_problems(attachment, pod, [*faults, *find_rivals(attachment, self._node_ports.owner)])


def _entries(attachment: Attachment) -> list[Entry]:
    return [each for port in attachment.host_ports for each in entries(port, attachment.addresses)]


def _is_of(pod: Pod, attachment: Attachment) -> bool:
    """Whether it is this very Pod, not another one of the same name."""
    known = (pod.metadata.uid, pod.metadata.annotations.get(_MIRROR))
    return not attachment.uid or attachment.uid in known
