"""The Pods' links of this node: who gets which address, when a link is made, and when both are free again."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from tulle.agent import cni
from tulle.agent.host_ports.claims import HostPorts
from tulle.agent.monitor import LinkMonitor
from tulle.agent.services.pod_sockets import PodSockets
from tulle.errors import CniError, KernelError
from tulle.kernel import netns
from tulle.kernel.rtnetlink import format_mac
from tulle.model.address import Address, Network
from tulle.model.host_ports import HostPort
from tulle.pod_to_pod import link
from tulle.pod_to_pod.datapath import Datapath
from tulle.pod_to_pod.ipam import Ipam
from tulle.pod_to_pod.link import LinkSettings
from tulle.pod_to_pod.store import Attachment, AttachmentStore, link_name

log = logging.getLogger(__name__)


class Attachments:
    """What is done to one Pod's link is done in turn.

    Different Pods are served side by side, but for the making of links, for which there is one thread: the
    kernel makes one at a time anyway, and threads would only wait for its lock and for Python's. That
    thread is never busy with removing, which takes the kernel ten times as long, most of it asleep.
    """

    def __init__(
        self,
        store: AttachmentStore,
        datapath: Datapath,
        monitor: LinkMonitor,
        sockets: PodSockets,
        host_ports: HostPorts,
    ) -> None:
        self._store = store
        self._datapath = datapath
        self._monitor = monitor
        self._sockets = sockets
        self._host_ports = host_ports
        self._connecting = ThreadPoolExecutor(1, "connect")
        self._locks = WeakValueDictionary[tuple[str, str], asyncio.Lock]()
        self.ipam: Ipam | None = None
        self._settings: LinkSettings | None = None

    def __iter__(self) -> Iterator[Attachment]:
        return iter(self._store)

    def get(self, container_id: str, ifname: str) -> Attachment | None:
        return self._store.get(container_id, ifname)

    def configure(self, cidrs: Sequence[Network], settings: LinkSettings) -> None:
        """From now on Pods can be connected. Called again when the node's CIDRs, addresses or MTU change.

        Raises ``AddressError`` for CIDRs that cannot be right.
        """
        if self.ipam is None or self.ipam.cidrs != tuple(cidrs):
            ipam = Ipam(cidrs)
            for attachment in self._store:
                ipam.take(attachment.addresses)
            self.ipam = ipam
        self._settings = settings

    # Calls of the runtime

    async def connect(
        self, request: cni.Request, mapped: tuple[HostPort, ...] | None
    ) -> tuple[Attachment, LinkSettings]:
        """What ADD asks for, with the host ports that the runtime gave; None: it said nothing of them.

        Raises ``CniError``, ``AddressError``, ``OSError``, ``KernelError``; then nothing is left behind.
        """
        async with self._turn(request.container_id, request.ifname):
            if self.ipam is None or self._settings is None:
                raise CniError(cni.TRY_AGAIN, cni.UNCONFIGURED)
            settings = self._settings
            if left := self._store.get(request.container_id, request.ifname):
                await self._replace_leftover(left)
            attachment = _attachment(request, self.ipam.allocate(), mapped)
            try:
                self._host_ports.claim(attachment)
                self._store.add(attachment)
                cookie = await self._connect(attachment, settings)
                attachment = self._sockets.know(attachment, cookie)
                return self._host_ports.open(attachment), settings
            except (CniError, OSError, KernelError):
                await self._undo(attachment)
                raise

    async def _connect(self, attachment: Attachment, settings: LinkSettings) -> int:
        """Returns the cookie of the Pod's network namespace."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._connecting, _connect, attachment, settings, self._datapath)

    async def _undo(self, attachment: Attachment) -> None:
        """A link that cannot be taken away keeps its record, and with it its addresses, until it is gone."""
        try:
            await self._disconnect(attachment)
        except (OSError, KernelError) as error:
            log.error("what a failed ADD of %s made stays: %s", attachment.owner, error)

    async def _replace_leftover(self, left: Attachment) -> None:
        """An ADD that a killed agent did not finish, or a DEL still to be done, makes room for a new ADD."""
        if not left.deleted and await asyncio.to_thread(link.inspect, left, self._datapath) is None:
            raise CniError(cni.BAD_ENVIRONMENT, f"CNI_IFNAME: {left.ifname} is connected already")
        await self._disconnect(left)

    async def delete(self, container_id: str, ifname: str) -> None:
        """Always succeeds: what cannot be done now is recorded, and done by ``reconcile``."""
        async with self._turn(container_id, ifname):
            attachment = self._store.get(container_id, ifname)
            if attachment is None:
                return
            try:
                attachment = msgspec.structs.replace(attachment, deleted=True)
                self._store.add(attachment)
                self._host_ports.close(attachment)
                await self._disconnect(attachment)
            except (OSError, KernelError) as error:
                log.error("DEL of %s is put off: %s", attachment.owner, error)

    async def inspect(self, attachment: Attachment) -> str:
        """What is missing of it in the kernel, in words; empty when nothing is."""
        fault = await asyncio.to_thread(link.inspect, attachment, self._datapath)
        return fault or self._host_ports.inspect(attachment)

    async def _disconnect(self, attachment: Attachment) -> None:
        """Returns when the link is gone from view; the kernel cleans up behind it for a while longer."""
        link.withdraw(attachment, self._datapath)  # a thread may get there when others have the addresses
        gone = self._monitor.gone(attachment.link)
        removal = asyncio.create_task(
            asyncio.to_thread(link.remove, attachment), name=f"remove {attachment.link}"
        )
        seen = asyncio.create_task(gone.wait(), name=f"await the end of {attachment.link}")
        try:
            await asyncio.wait((removal, seen), return_when=asyncio.FIRST_COMPLETED)
            if removal.done():
                removal.result()
            else:
                removal.add_done_callback(_log_failure)
        finally:
            seen.cancel()
            self._monitor.forget(attachment.link)
        self._forget(attachment)

    def _forget(self, attachment: Attachment) -> None:
        self._host_ports.close(attachment)
        self._sockets.forget(attachment)
        self._store.remove(attachment)
        if self.ipam:
            self.ipam.free(attachment.addresses)

    async def ask_pod(self, namespace: str, pod: str) -> None:
        """The spec of this Pod is known now, or a host port that it lacks is free."""
        for each in self._store:
            if (each.namespace, each.pod) != (namespace, pod):
                continue
            async with self._turn(*each.key):
                attachment = self._store.get(*each.key)
                if attachment and not attachment.deleted:
                    try:
                        self._host_ports.open(attachment)
                    except (OSError, KernelError) as error:
                        log.error("host ports of %s: %s", attachment.owner, error)

    # Records and kernel

    def forget_unknown(self) -> None:
        """Once, before the first call is served: what an older agent left in the maps, and nobody has.

        What Pods have is theirs from then on.
        """
        self._host_ports.restore()
        self._datapath.keep_clients(self._sockets.places())
        self._datapath.keep_endpoints(
            address for attachment in self._store for address in link.addresses_of(attachment)
        )

    def handle_gone(self, name: str) -> None:
        """A link went without DEL: with its sandbox, or by somebody's hand.

        Where a call is at work on the attachment, its end or ``reconcile`` sees to it: an address is not to
        be freed twice, between which somebody else may be given it.
        """
        attachment = self._store.by_link(name)
        if attachment and attachment.key not in self._locks:
            if netns.exists(Path(attachment.netns)):
                log.warning("%s lost its %s; its sandbox is alive", attachment.owner, attachment.ifname)
            else:
                self._sandbox_gone(attachment)

    async def reconcile(self) -> None:
        """Compares the records with the kernel: after a start, and now and then."""
        for attachment in self._store:
            async with self._turn(*attachment.key):
                if self._store.get(*attachment.key) == attachment:  # else it changed while we waited
                    await self._compare(attachment)

    async def _compare(self, attachment: Attachment) -> None:
        try:
            if attachment.deleted:
                await self._disconnect(attachment)
            elif self._settings and link.exists(attachment):
                await self._repair(attachment, self._settings)
            elif not netns.exists(Path(attachment.netns)):
                self._sandbox_gone(attachment)
        except (OSError, KernelError) as error:
            log.error("%s: %s", attachment.owner, error)

    async def _repair(self, attachment: Attachment, settings: LinkSettings) -> None:
        await asyncio.to_thread(link.repair, attachment, settings, self._datapath)
        if attachment.cookie:
            self._sockets.tell(attachment)
        else:
            self._sockets.know(attachment, await asyncio.to_thread(netns.cookie, Path(attachment.netns)))

    def _sandbox_gone(self, attachment: Attachment) -> None:
        """What cannot be done now is done by ``reconcile``."""
        try:
            link.withdraw(attachment, self._datapath)
            self._forget(attachment)
        except (OSError, KernelError) as error:
            log.error("%s, whose sandbox is gone: %s", attachment.owner, error)
        else:
            log.info("the sandbox of %s is gone; its addresses are free again", attachment.owner)

    @asynccontextmanager
    async def _turn(self, container_id: str, ifname: str) -> AsyncIterator[None]:
        """A lock is there for as long as somebody has it or waits for it."""
        lock = self._locks.setdefault((container_id, ifname), asyncio.Lock())
        async with lock:
            yield


def _attachment(
    request: cni.Request, addresses: Sequence[Address], mapped: tuple[HostPort, ...] | None
) -> Attachment:
    return Attachment(
        container_id=request.container_id,
        ifname=request.ifname,
        netns=request.netns,
        link=link_name(request.container_id, request.ifname),
        mac=format_mac(b"\x0a" + os.urandom(5)),
        ips=tuple(map(str, addresses)),
        namespace=request.namespace,
        pod=request.pod,
        uid=request.uid,
        host_ports=mapped or (),
        mapped=mapped is not None,
    )


def _connect(attachment: Attachment, settings: LinkSettings, datapath: Datapath) -> int:
    path = Path(attachment.netns)
    if not netns.exists(path):
        raise CniError(cni.BAD_ENVIRONMENT, f"CNI_NETNS: {path} is no network namespace")
    if netns.is_own(path):
        raise CniError(cni.BAD_ENVIRONMENT, f"CNI_NETNS: {path} is the node's own network namespace")
    return link.connect(attachment, settings, datapath)


def _log_failure(removal: asyncio.Task[None]) -> None:
    if not removal.cancelled() and (error := removal.exception()):
        log.error("%s: %s", removal.get_name(), error)
