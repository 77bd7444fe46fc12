"""Carries out CNI calls (specification 1.1.0, section 4)."""

from __future__ import annotations

import logging

import msgspec

from tulle.agent import cni
from tulle.agent.attachments import Attachments
from tulle.errors import AddressError, CniError, KernelError

log = logging.getLogger(__name__)


class Calls:
    """``handle`` is the one way in; all of its calls may come at the same time."""

    def __init__(self, attachments: Attachments) -> None:
        self._attachments = attachments
        self.fault = ""
        """What is wrong with the ways to other nodes, so that Pods that are connected may be cut off."""

    async def handle(self, request: cni.Request) -> bytes:
        """Answers a call: the result of ADD, nothing for the others. Raises ``CniError``."""
        match request.command:
            case "ADD":
                return await self._add(request)
            case "DEL":
                await self._attachments.delete(request.container_id, request.ifname)
            case "CHECK":
                await self._check(request)
            case "GC":
                await self._collect(request)
            case "STATUS":
                self._status()
        return b""

    async def _add(self, request: cni.Request) -> bytes:
        mapped = cni.read_port_mappings(request.conf)
        try:
            attachment, settings = await self._attachments.connect(request, mapped)
        except (AddressError, OSError, KernelError) as error:
            raise cni.as_cni_error(error) from error
        return cni.encode_result(request.conf, attachment, settings.mtu)

    async def _check(self, request: cni.Request) -> None:
        attachment = self._attachments.get(request.container_id, request.ifname)
        if attachment is None or attachment.deleted:
            raise CniError(cni.UNKNOWN_CONTAINER, f"{request.container_id} has no {request.ifname} here")
        told = request.conf.prev_result or cni.PrevResult()
        if missing := set(attachment.ips) - told.addresses:
            raise CniError(cni.BAD_CONFIG, f"prevResult: {', '.join(sorted(missing))} is not among its ips")
        if fault := await self._attachments.inspect(attachment):
            raise CniError(cni.DAMAGED, f"{attachment.owner} lacks {fault}")

    async def _collect(self, request: cni.Request) -> None:
        """GC: what the runtime does not name is gone."""
        if request.conf.valid is msgspec.UNSET:
            raise CniError(cni.BAD_CONFIG, "cni.dev/valid-attachments: missing; GC needs it")
        valid = {(a.container_id, a.ifname) for a in request.conf.valid or ()}
        for attachment in self._attachments:
            if attachment.key not in valid:
                log.info("GC: %s is unknown to the runtime", attachment.owner)
                await self._attachments.delete(*attachment.key)
        if left := [a.owner for a in self._attachments if a.deleted]:
            raise CniError(cni.IO_FAILURE, f"could not remove the links of {', '.join(left)}")

    def _status(self) -> None:
        if self.fault:
            raise CniError(cni.LIMITED, self.fault)
        ipam = self._attachments.ipam
        if ipam is None:
            raise CniError(cni.NOT_AVAILABLE, cni.UNCONFIGURED)
        if not ipam.available:
            cidrs = ", ".join(map(str, ipam.cidrs))
            raise CniError(cni.NOT_AVAILABLE, f"no address is left in spec.podCIDRs {cidrs}")
