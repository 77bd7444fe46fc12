"""Frames by one device, as they are, and the groups whose frames a device lets in."""

from __future__ import annotations

import fcntl
import socket
import struct
from ipaddress import IPv6Address
from typing import Final

from tulle.errors import KernelError

_SIOCGIFFLAGS: Final = 0x8913
_IFF_RUNNING: Final = 0x40
_IFREQ: Final = struct.Struct("16sh22x")


class LinkSocket:
    """Sends frames by the device ``name``, and receives none. Raises ``KernelError``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self._socket.bind((name, 0))
        except OSError as error:
            self._socket.close()
            raise _failure(error, f"open a packet socket on {name}") from error

    def close(self) -> None:
        self._socket.close()

    @property
    def mac(self) -> bytes:
        """As it is now: that of a bond may change."""
        return bytes(self._socket.getsockname()[4])

    @property
    def is_running(self) -> bool:
        """Whether the device has a carrier; a device that is gone has none."""
        try:
            answer = fcntl.ioctl(self._socket, _SIOCGIFFLAGS, _IFREQ.pack(self._name.encode(), 0))
        except OSError:
            return False
        return bool(_IFREQ.unpack(answer)[1] & _IFF_RUNNING)

    def send(self, frame: bytes) -> None:
        """``frame`` begins with its Ethernet header."""
        try:
            self._socket.send(frame)
        except OSError as error:
            raise _failure(error, f"send a frame by {self._name}") from error


class Membership:
    """While it is open, the device lets in what is sent to the group, and tells switches that listen (MLD).

    Raises ``KernelError``.
    """

    def __init__(self, group: IPv6Address, ifindex: int) -> None:
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            request = group.packed + struct.pack("=I", ifindex)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        except OSError as error:
            self._socket.close()
            raise _failure(error, f"join {group} on link {ifindex}") from error

    def close(self) -> None:
        self._socket.close()


def _failure(error: OSError, what: str) -> KernelError:
    return KernelError(error.errno or 0, what)
