"""What users must know of host ports: what cannot be right, as Events tell it. Pure."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from tulle.errors import KernelError
from tulle.external_to_service.host_port_claims import entries
from tulle.external_to_service.host_ports import Fault
from tulle.kube.resources import Key
from tulle.model.address import to_bytes
from tulle.model.host_ports import HostPort
from tulle.model.objects import Pod
from tulle.pod_to_pod.store import Attachment
from tulle.pod_to_service.plan import Problem


def taken(port: HostPort, other: Attachment) -> str:
    """In words: another Pod has it."""
    return f"{port} belongs to Pod {other.owner} on this node already; one that is free is right"


def unwritten(port: HostPort, error: KernelError) -> Fault:
    """The kernel did not take what a Pod's spec asks for; ``port`` is the first of it."""
    full = error.errno in (errno.E2BIG, errno.ENOSPC)
    reason = "the kernel's Service table is full; fewer Services and host ports fit" if full else str(error)
    return Fault(f"{port.field}.hostPort", f"{port} leads nowhere yet: {reason}; it is tried again")


def find_faults(attachment: Attachment, own: frozenset[bytes]) -> Iterable[Fault]:
    """Of what the attachment has: nobody comes by a ``hostIP`` that is not there.

    ``own``: the addresses of this node, 16 bytes each; empty where they are not known yet.
    """
    for port in attachment.host_ports:
        field = f"{port.field}.hostIP"
        if not entries(port, attachment.addresses):
            yield Fault(
                field, f"the Pod has no address of the family of {port.host_ip}: {port} leads nowhere"
            )
        elif own and _is_foreign(port, own):
            yield Fault(
                field, f"{port.host_ip} is no address of this node: until it is, nobody comes by {port}"
            )


def find_rivals(attachment: Attachment, owner: Callable[[int, str], Key | None]) -> Iterable[Fault]:
    """Host ports with the number of a node port. ``owner``: the Service that has a node port, if one does.

    An exact address goes first, then node ports, then host ports on all addresses.
    """
    for port in attachment.host_ports:
        if service := owner(port.host_port, port.protocol):
            name = f"node port {port.host_port}/{port.protocol} of Service {'/'.join(service)}"
            single = port.host_ip and not ip_address(port.host_ip).is_unspecified
            message = f"{port} goes before {name}" if single else f"{name} goes before {port}"
            yield Fault(f"{port.field}.hostPort", f"{message}; another number is right")


def _is_foreign(port: HostPort, own: frozenset[bytes]) -> bool:
    if not port.host_ip:
        return False
    address = ip_address(port.host_ip)
    return not (address.is_unspecified or address.is_loopback or to_bytes(address) in own)


def as_problems(attachment: Attachment, pod: Pod | None, faults: Iterable[Fault]) -> Iterable[Problem]:
    """``pod`` is what the API knows of it. Where the runtime gave no name, there is nobody to tell."""
    if attachment.pod:
        uid = pod.metadata.uid if pod else attachment.uid
        for fault in faults:
            key = (attachment.namespace, attachment.pod)
            yield Problem("Pod", key, fault.field, fault.message, uid)
