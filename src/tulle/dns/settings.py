"""What can be set; the worker gets it from the command line as one JSON object."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec

from tulle.dns.names import to_wire
from tulle.errors import ConfigError


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """``listen`` are addresses to serve on; an empty ``kubeconfig`` means: as in a Pod."""

    listen: tuple[str, ...]
    port: int = 53
    http_port: int = 9153
    zone: str = "cluster.local"
    node_name: str = ""
    kubeconfig: str = ""
    upstream_file: str = "/etc/resolv.conf"
    corefile: str = ""
    state_dir: str = "/var/lib/tulle"
    log_queries: bool = False
    log_level: str = "info"

    def check(self) -> None:
        """Raises ``ConfigError``, which names the flag."""
        if not self.listen:
            raise ConfigError("--listen: at least one address is needed, such as the cluster's DNS address")
        for text in self.listen:
            _check_address(text)
        for flag, port in (("--port", self.port), ("--http-port", self.http_port)):
            if not 0 < port < 65536:
                raise ConfigError(f"{flag}: {port} is not 1 to 65535")
        if self.port == self.http_port:
            raise ConfigError(f"--http-port: {self.http_port} is --port, too; they must differ")
        try:
            to_wire(self.zone)
        except ValueError as error:
            raise ConfigError(f"--zone: {error}") from error
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise ConfigError(f"--log-level: {self.log_level} is not debug, info, warning or error")


def _check_address(text: str) -> None:
    try:
        address = ip_address(text)
    except ValueError:
        raise ConfigError(f"--listen: {text} is no IP address") from None
    if address.is_unspecified or address.is_multicast:
        raise ConfigError(
            f"--listen: {text} is no address of one machine; answers must come from the address that was "
            "asked, so name each address"
        )
