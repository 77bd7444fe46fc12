"""A port of the node that leads to a Pod (``hostPort``, N-10), as the Pod's record on disk has it."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec

PROTOCOLS = ("TCP", "UDP", "SCTP")


class HostPort(msgspec.Struct, frozen=True, gc=False):
    """``host_ip`` is in its shortest form, and empty for all addresses of the node.

    ``field``: where this was asked for, such as ``runtimeConfig.portMappings[0]``.
    """

    host_port: int
    container_port: int
    protocol: str = "TCP"
    host_ip: str = ""
    field: str = ""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for what is no address."""
        if self.host_ip:
            ip_address(self.host_ip)

    def __str__(self) -> str:
        """``10.0.0.1:8080/TCP``; ``*`` for all addresses."""
        address = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip or "*"
        return f"{address}:{self.host_port}/{self.protocol}"
