"""Pod sandboxes: network, IPC and UTS namespaces held by mounts, so that no pause process is needed."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final

from tulle.errors import CniError, KernelError
from tulle.kernel import libc, mounts
from tulle.kernel.netlink import Netlink
from tulle.kernel.rtnetlink import set_up
from tulle.lab.kubelet import records
from tulle.lab.kubelet.cni import Attachment, Plugins, load, port_mappings
from tulle.lab.kubelet.objects import Pod
from tulle.lab.kubelet.records import SandboxRecord

_KINDS: Final = {"net": libc.CLONE_NEWNET, "ipc": 0x08000000, "uts": 0x04000000}
_LOOPBACK = 1
NOT_AVAILABLE: Final = 50


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Folder and record of a Pod's sandbox; ``netns`` is the node's own for a host-network Pod."""

    folder: Path
    netns: Path
    record: SandboxRecord

    def namespace(self, kind: str) -> Path:
        return self.netns if kind == "net" else self.folder / "ns" / kind

    def attachment(self) -> Attachment:
        record = self.record
        mappings = record.port_mappings
        return Attachment(record.id, self.netns, record.namespace, record.name, record.uid, mappings)


class Sandboxes:
    """All sandboxes of a node, each in ``folder/<Pod UID>``."""

    def __init__(self, folder: Path, node_netns: Path, cni_conf: Path, cni_bin: Path) -> None:
        self.folder = folder
        self.plugins = Plugins(cni_bin)
        self._node_netns = node_netns
        self._cni_conf = cni_conf

    def network(self) -> dict[str, object] | None:
        return load(self._cni_conf)

    def recorded(self) -> Iterator[SandboxRecord]:
        """Those that exist, with or without a Pod in the API."""
        for file in self.folder.glob("*/sandbox.json"):
            if record := records.read(file, SandboxRecord):
                yield record

    def existing(self, uid: str) -> Sandbox | None:
        """The Pod's sandbox, if it is whole."""
        record = records.read(self.folder / uid / "sandbox.json", SandboxRecord)
        if record is None or (record.network is not None and record.result is None):
            return None
        return self._sandbox(record)

    def _sandbox(self, record: SandboxRecord) -> Sandbox:
        folder = self.folder / record.uid
        netns = self._node_netns if record.network is None else folder / "ns" / "net"
        return Sandbox(folder, netns, record)

    async def create(self, pod: Pod, hostname: str) -> Sandbox:
        """Namespaces with ``lo`` up, and the result of CNI ADD. Raises ``CniError``; nothing is left then."""
        meta, spec = pod.metadata, pod.spec
        if half := records.read(self.folder / meta.uid / "sandbox.json", SandboxRecord):
            await self.remove(half)
        network = None
        if not spec.host_network:
            network = self.network()
            if network is None:
                raise CniError(NOT_AVAILABLE, f"no network yet: {self._cni_conf} has no CNI configuration")
        record = SandboxRecord(
            token_hex(32),
            meta.namespace,
            meta.name,
            meta.uid,
            hostname,
            network=network,
            port_mappings=port_mappings(spec),
        )
        sandbox = self._sandbox(record)
        records.write(sandbox.folder / "sandbox.json", record)
        try:
            _make_namespaces(sandbox)
            if network is not None:
                record.result = await self.plugins.add(network, sandbox.attachment())
                record.ips = tuple(ip["address"].partition("/")[0] for ip in record.result.get("ips", ()))
                if not record.ips:
                    raise CniError(NOT_AVAILABLE, "CNI ADD gave the Pod no address")
        except BaseException:
            with contextlib.suppress(CniError):  # the record stays then, and the next attempt begins with it
                await self.remove(record)
            raise
        records.write(sandbox.folder / "sandbox.json", record)
        return sandbox

    async def remove(self, record: SandboxRecord) -> None:
        """CNI DEL, then the namespaces. Raises ``CniError`` and keeps the record when DEL fails."""
        sandbox = self._sandbox(record)
        if record.network is not None:
            await self.plugins.delete(record.network, sandbox.attachment(), record.result)
        mounts.unmount_below(sandbox.folder / "ns")
        shutil.rmtree(sandbox.folder / "ns", ignore_errors=True)
        (sandbox.folder / "sandbox.json").unlink(missing_ok=True)

    def forget(self, uid: str) -> None:
        """Removes the folder of a Pod whose sandbox is gone."""
        mounts.unmount_below(self.folder / uid)
        shutil.rmtree(self.folder / uid, ignore_errors=True)


def _make_namespaces(sandbox: Sandbox) -> None:
    """On a thread of its own that ends in the new namespaces, so that nobody has to find the way back."""
    kinds = [kind for kind in _KINDS if sandbox.namespace(kind).parent == sandbox.folder / "ns"]
    for kind in kinds:
        path = sandbox.namespace(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    failure: list[KernelError] = []

    def make() -> None:
        try:
            libc.unshare(sum(_KINDS[kind] for kind in kinds))
            socket.sethostname(sandbox.record.hostname)
            if "net" in kinds:
                with Netlink() as netlink:
                    netlink.send([set_up(_LOOPBACK)])
            for kind in kinds:
                libc.mount(f"/proc/thread-self/ns/{kind}", sandbox.namespace(kind), flags=libc.MS_BIND)
        except KernelError as error:
            failure.append(error)

    thread = threading.Thread(target=make, name=f"sandbox {sandbox.record.name}")
    thread.start()
    thread.join()
    if failure:
        raise CniError(NOT_AVAILABLE, f"the sandbox cannot be made: {failure[0]}")
