"""What can be set: one YAML file, explained in ``docs/agent.yaml``, and a flag for each of its fields."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec

from tulle.errors import ConfigError
from tulle.model.address import Network
from tulle.pod_to_pod.programs import ExternalTraffic
from tulle.pod_to_pod.topology import Routing
from tulle.pod_to_service.own import NodePortAddresses
from tulle.telemetry.listeners import Place, parse_place

LEAST_MTU = 1280
"""Of IPv6 (RFC 8200, section 5)."""
NOWHERE = "none"
"""For an address to listen at, as is an empty text, which no flag can say."""
LEAST_FLOWS = 4096
PRIMARY = "primary"
"""Of ``nodePortAddresses``: the addresses by which the Node object names this node."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Defaults are those of a node whose only cluster is this one. ``mtu`` 0: from the uplinks."""

    node_name: str = ""
    kubeconfig: str = ""
    state_dir: str = "/var/lib/tulle"
    run_dir: str = "/run/tulle"
    bpffs: str = "/sys/fs/bpf/tulle"
    cni_conf_dir: str = "/etc/cni/net.d"
    cni_bin_dir: str = "/opt/cni/bin"
    routing: Routing = Routing.AUTO
    mtu: int = 0
    uplinks: tuple[str, ...] = ()
    overlay_vni: int = 84
    overlay_port: int = 4789
    masquerade: bool = True
    masquerade_except: tuple[str, ...] = ()
    services: bool = True
    socket_services: bool = True
    node_port_addresses: tuple[str, ...] = (PRIMARY,)
    external_traffic: ExternalTraffic = ExternalTraffic.HANDOVER
    flow_table_size: int = 1 << 20
    l2_announcements: bool = True
    cgroup: str = ""
    healthz_bind_address: str = "0.0.0.0:10256"
    metrics_bind_address: str = "127.0.0.1:10249"
    log_level: str = "info"

    @property
    def announces(self) -> bool:
        """Whether this node takes part in announcing LoadBalancer IPs."""
        return self.services and self.l2_announcements

    @property
    def kept(self) -> tuple[Network, ...]:
        """``masquerade_except`` as networks."""
        return tuple(map(ip_network, self.masquerade_except))

    @property
    def healthz(self) -> Place | None:
        """``healthz_bind_address``."""
        return _place(self.healthz_bind_address)

    @property
    def metrics(self) -> Place | None:
        """``metrics_bind_address``."""
        return _place(self.metrics_bind_address)

    @property
    def node_ports(self) -> NodePortAddresses:
        """``node_port_addresses``, read."""
        networks = tuple(ip_network(text) for text in self.node_port_addresses if text != PRIMARY)
        return NodePortAddresses(PRIMARY in self.node_port_addresses, networks)

    @property
    def socket(self) -> Path:
        """Where ``tulle-cni`` reaches the agent."""
        return Path(self.run_dir) / "cni.sock"

    @property
    def bgp(self) -> Path:
        """Where BIRD has its configuration and its control socket."""
        return Path(self.run_dir) / "bgp"

    @property
    def queue(self) -> Path:
        """Where ``tulle-cni`` leaves DEL calls while there is no agent."""
        return Path(self.run_dir) / "cni.sock.del"


def load(file: Path | None, flags: Mapping[str, Any]) -> Settings:
    """The file's settings with the flags that were given over them; ``flags`` by the file's field names.

    Raises ``ConfigError``, which names the field.
    """
    try:
        text = file.read_bytes() if file else b"{}"
    except OSError as error:
        raise ConfigError(f"settings file {file}: {error.strerror}") from error
    try:
        from_file = msgspec.to_builtins(msgspec.yaml.decode(text, type=Settings | None) or Settings())
        given = {name: value for name, value in flags.items() if value not in (None, [], "")}
        settings = msgspec.convert(from_file | given, Settings)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"settings{f' file {file}' if file else ''}: {error}") from error
    if not settings.node_name:
        settings = msgspec.structs.replace(settings, node_name=socket.gethostname().lower())
    _validate(settings)
    return settings


def _place(text: str) -> Place | None:
    return None if text in ("", NOWHERE) else parse_place(text)


def _validate(settings: Settings) -> None:
    if settings.mtu and not LEAST_MTU <= settings.mtu <= 65535:
        raise ConfigError(f"mtu: {settings.mtu} is not 0 (found from the uplinks) or {LEAST_MTU} to 65535")
    if not 0 < settings.overlay_vni < 1 << 24:
        raise ConfigError(f"overlayVni: {settings.overlay_vni} is not 1 to 16777215")
    if not 0 < settings.overlay_port < 1 << 16:
        raise ConfigError(f"overlayPort: {settings.overlay_port} is not 1 to 65535")
    for text in settings.masquerade_except:
        try:
            ip_network(text)
        except ValueError as error:
            raise ConfigError(f"masqueradeExcept: {error}; a CIDR such as 10.0.0.0/8 is needed") from error
    for field in ("healthz_bind_address", "metrics_bind_address"):
        try:
            _place(getattr(settings, field))
        except ValueError as error:
            name = field.split("_")[0] + "BindAddress"
            raise ConfigError(f"{name}: {error}; 0.0.0.0:10256, or {NOWHERE}, would be right") from error
    for text in settings.node_port_addresses:
        _validate_node_ports(text)
    size = settings.flow_table_size
    if size < LEAST_FLOWS or size & (size - 1):
        raise ConfigError(f"flowTableSize: {size} is not a power of two from {LEAST_FLOWS} on, as 1048576 is")
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError(f"logLevel: {settings.log_level} is not debug, info, warning or error")


def _validate_node_ports(text: str) -> None:
    """S-21: node ports are never reached by loopback."""
    if text == PRIMARY:
        return
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ConfigError(f"nodePortAddresses: {error}; {PRIMARY} or a CIDR is needed") from error
    if network.is_loopback:
        raise ConfigError(f"nodePortAddresses: {text} is loopback, by which node ports are not reached")
