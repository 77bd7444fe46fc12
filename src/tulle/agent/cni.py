"""The words of CNI (specification 1.1.0): requests, results, errors. Pure; ``calls`` acts on them."""

from __future__ import annotations

import re
from ipaddress import ip_interface
from typing import Any, Final

import msgspec

from tulle.errors import AddressError, CniError, KernelError
from tulle.external_to_service.host_ports import PortMapping, read_mappings
from tulle.kernel.rtnetlink import format_mac
from tulle.model.host_ports import HostPort
from tulle.pod_to_pod.link import ANYWHERE, GATEWAYS
from tulle.pod_to_pod.programs import GATEWAY_MAC
from tulle.pod_to_pod.store import Attachment

VERSIONS: Final = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
INCOMPATIBLE_VERSION, UNKNOWN_CONTAINER, BAD_ENVIRONMENT, IO_FAILURE, BAD_JSON, BAD_CONFIG = 1, 3, 4, 5, 6, 7
TRY_AGAIN, NOT_AVAILABLE, LIMITED = 11, 50, 51
INTERNAL, KERNEL_REFUSED, DAMAGED, PORT_TAKEN = 100, 101, 102, 103
"""Error codes of section 5; those from 100 are ours."""
UNCONFIGURED: Final = "the agent does not know this node's Pod CIDRs and addresses yet"

_NEEDED: Final = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
}
_CONTAINER_ID: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_IFNAME: Final = re.compile(r"(?!\.{1,2}$)[^/:\s]{1,15}")


class ValidAttachment(msgspec.Struct, frozen=True):
    """One entry of ``cni.dev/valid-attachments``."""

    container_id: str = msgspec.field(name="containerID")
    ifname: str


class PrevResult(msgspec.Struct, frozen=True):
    """The result of the plugin before in the chain, or at CHECK our own; handed on as it is."""

    interfaces: list[dict[str, Any]] | None = None
    ips: list[dict[str, Any]] | None = None
    routes: list[dict[str, Any]] | None = None
    dns: dict[str, Any] | None = None

    @property
    def addresses(self) -> set[str]:
        """Those of ``ips``, without their prefix lengths."""
        return {str(ip.get("address", "")).split("/")[0] for ip in self.ips or ()}


class NetConf(msgspec.Struct, frozen=True):
    """The network configuration on standard input, as far as it matters here."""

    version: str = msgspec.field(name="cniVersion", default="0.1.0")
    name: str = ""
    prev_result: PrevResult | None = msgspec.field(name="prevResult", default=None)
    valid: tuple[ValidAttachment, ...] | msgspec.UnsetType | None = msgspec.field(
        name="cni.dev/valid-attachments", default=msgspec.UNSET
    )
    """``None`` is how a runtime written in Go may spell a list that is empty."""
    runtime_config: msgspec.Raw = msgspec.field(name="runtimeConfig", default=msgspec.Raw(b"{}"))
    """Read where it counts, which is at ADD: whatever stands there, DEL must do its work."""


class RuntimeConfig(msgspec.Struct, frozen=True):
    """Capability arguments; ``port_mappings`` is None where the runtime has none to give."""

    port_mappings: tuple[PortMapping, ...] | None = msgspec.field(name="portMappings", default=None)


class _WithRuntimeConfig(msgspec.Struct, frozen=True):
    runtime_config: RuntimeConfig | None = msgspec.field(name="runtimeConfig")


class Request(msgspec.Struct, frozen=True):
    """A call that can be answered; ``pod`` and its kin come from CNI_ARGS and may be empty."""

    command: str
    conf: NetConf
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    namespace: str = ""
    pod: str = ""
    uid: str = ""


def parse_request(data: bytes) -> Request:
    """Reads what ``tulle-cni`` sends: ``KEY=VALUE`` entries that end with NUL, one more NUL, standard input.

    Raises ``CniError``: 4 names the variable, 6 the place in the JSON, 7 the field, 1 the version.
    """
    head, _, body = data.partition(b"\0\0")
    environment = dict(_split(entry) for entry in head.decode(errors="replace").split("\0"))
    command = environment.get("CNI_COMMAND", "")
    if command not in _NEEDED:
        raise CniError(BAD_ENVIRONMENT, f"CNI_COMMAND: {command!r} is not one of {', '.join(_NEEDED)}")
    for name in _NEEDED[command]:
        if not environment.get(name):
            raise CniError(BAD_ENVIRONMENT, f"{name} is missing; {command} needs it")
    container_id, ifname = environment.get("CNI_CONTAINERID", ""), environment.get("CNI_IFNAME", "")
    if container_id and not _CONTAINER_ID.fullmatch(container_id):
        raise CniError(
            BAD_ENVIRONMENT, f"CNI_CONTAINERID: {container_id!r} is not letters, digits, _ . and -"
        )
    if ifname and not _IFNAME.fullmatch(ifname):
        raise CniError(BAD_ENVIRONMENT, f"CNI_IFNAME: {ifname!r} is no name for an interface")
    arguments = dict(_split(entry) for entry in environment.get("CNI_ARGS", "").split(";"))
    return Request(
        command=command,
        conf=_parse_conf(body),
        container_id=container_id,
        netns=environment.get("CNI_NETNS", ""),
        ifname=ifname,
        namespace=arguments.get("K8S_POD_NAMESPACE", ""),
        pod=arguments.get("K8S_POD_NAME", ""),
        uid=arguments.get("K8S_POD_UID", ""),
    )


def _split(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value


def _parse_conf(body: bytes) -> NetConf:
    try:
        conf = msgspec.json.decode(body, type=NetConf)
    except msgspec.ValidationError as error:
        raise CniError(BAD_CONFIG, f"network configuration: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CniError(BAD_JSON, f"network configuration is not JSON: {error}") from error
    if conf.version not in VERSIONS:
        supported = ", ".join(VERSIONS)
        raise CniError(
            INCOMPATIBLE_VERSION, f"cniVersion: {conf.version} is not supported", f"supported: {supported}"
        )
    if not conf.name:
        raise CniError(BAD_CONFIG, "name: the network configuration has none")
    return conf


def read_port_mappings(conf: NetConf) -> tuple[HostPort, ...] | None:
    """Which ports of the node are to lead to the Pod (N-10); None where the runtime says nothing of them.

    Raises ``CniError`` 7, which names the first field that is wrong.
    """
    try:
        found = msgspec.json.decode(b'{"runtimeConfig":%b}' % conf.runtime_config, type=_WithRuntimeConfig)
    except msgspec.ValidationError as error:
        raise CniError(BAD_CONFIG, f"network configuration: {error}") from error
    if found.runtime_config is None or found.runtime_config.port_mappings is None:
        return None
    asked = read_mappings(found.runtime_config.port_mappings)
    for fault in asked.faults:
        raise CniError(BAD_CONFIG, f"{fault.field}: {fault.message}")
    return asked.ports


def version_of(data: bytes) -> str:
    """The version to answer a request with that could not be read: its own where that is one of ours."""
    try:
        version = msgspec.json.decode(data.partition(b"\0\0")[2])["cniVersion"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError):
        return VERSIONS[-1]
    return version if version in VERSIONS else VERSIONS[-1]


def encode_error(version: str, error: CniError) -> bytes:
    """The error object of section 5."""
    body = {"cniVersion": version, "code": error.code, "msg": str(error)}
    return msgspec.json.encode(body | ({"details": error.details} if error.details else {}))


def as_cni_error(error: AddressError | OSError | KernelError) -> CniError:
    """What a failed ADD answers with."""
    if isinstance(error, AddressError):
        return CniError(TRY_AGAIN, str(error))
    if isinstance(error, FileExistsError):
        return CniError(BAD_ENVIRONMENT, f"CNI_IFNAME: {error}")
    if isinstance(error, KernelError):
        return CniError(KERNEL_REFUSED, str(error))
    return CniError(IO_FAILURE, str(error))


def encode_result(conf: NetConf, attachment: Attachment, mtu: int) -> bytes:
    """The success result of ADD, behind that of the plugin before in the chain, if there is one."""
    previous = conf.prev_result or PrevResult()
    interfaces = list(previous.interfaces or ())
    own = len(interfaces) + 1  # behind the host's side
    size = {"mtu": mtu} if conf.version == "1.1.0" else {}
    interfaces += [
        {"name": attachment.link, "mac": format_mac(GATEWAY_MAC), **size},
        {"name": attachment.ifname, "mac": attachment.mac, "sandbox": attachment.netns, **size},
    ]
    ips = list(previous.ips or ())
    routes = list(previous.routes or ())
    for address in attachment.addresses:
        version = {} if conf.version.startswith("1.") else {"version": str(address.version)}
        gateway = str(GATEWAYS[address.version])
        ips.append({**version, "address": str(ip_interface(address)), "gateway": gateway, "interface": own})
        routes.append({"dst": str(ANYWHERE[address.version]), "gw": gateway})
    result = {"cniVersion": conf.version, "interfaces": interfaces, "ips": ips, "routes": routes}
    return msgspec.json.encode(result | {"dns": previous.dns or {}})
