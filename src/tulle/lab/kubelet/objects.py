"""Pods, with only the fields that the kubelet reads."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tulle.kube.resources import Resource

IntOrString = int | str


class _Read(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what is only read; fields that are not named are skipped."""


class KeyRef(_Read, frozen=True):
    """A key of a ConfigMap or Secret."""

    key: str
    name: str = ""
    optional: bool = False


class FieldRef(_Read, frozen=True):
    field_path: str


class EnvSource(_Read, frozen=True):
    field_ref: FieldRef | None = None
    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None


class EnvVar(_Read, frozen=True):
    name: str
    value: str = ""
    value_from: EnvSource | None = None


class WholeRef(_Read, frozen=True):
    """A whole ConfigMap or Secret."""

    name: str = ""
    optional: bool = False


class EnvFrom(_Read, frozen=True):
    prefix: str = ""
    config_map_ref: WholeRef | None = None
    secret_ref: WholeRef | None = None


class Exec(_Read, frozen=True):
    command: tuple[str, ...] = ()


class Header(_Read, frozen=True):
    name: str
    value: str


class HttpGet(_Read, frozen=True):
    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[Header, ...] = ()


class TcpSocket(_Read, frozen=True):
    port: IntOrString
    host: str = ""


class Grpc(_Read, frozen=True):
    port: int
    service: str | None = None


class Sleep(_Read, frozen=True):
    seconds: int


class Handler(_Read, frozen=True):
    """A probe's or a lifecycle hook's action: exactly one is set."""

    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: Grpc | None = None
    sleep: Sleep | None = None


class Probe(Handler, frozen=True):
    """Times in seconds."""

    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class Lifecycle(_Read, frozen=True):
    post_start: Handler | None = None
    pre_stop: Handler | None = None


class Capabilities(_Read, frozen=True):
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class Sysctl(_Read, frozen=True):
    name: str
    value: str


class SecurityContext(_Read, frozen=True):
    """Of a Pod and of a container; what a container leaves open the Pod's says."""

    privileged: bool = False
    capabilities: Capabilities = Capabilities()
    run_as_user: int | None = None
    run_as_group: int | None = None
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool = True
    fs_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()


class Port(_Read, frozen=True):
    """``host_port`` 0: the node has no port for it."""

    container_port: int
    name: str = ""
    host_port: int = 0
    protocol: str = "TCP"
    host_ip: str = msgspec.field(name="hostIP", default="")


class VolumeMount(_Read, frozen=True):
    name: str
    mount_path: str
    sub_path: str = ""
    read_only: bool = False


class Container(_Read, frozen=True):
    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    ports: tuple[Port, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    security_context: SecurityContext = SecurityContext()
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle = Lifecycle()
    restart_policy: str = ""

    @property
    def sidecar(self) -> bool:
        """Whether, as an init container, it goes on beside the others."""
        return self.restart_policy == "Always"


class KeyToPath(_Read, frozen=True):
    key: str
    path: str
    mode: int | None = None


class FileSource(_Read, frozen=True):
    """A ConfigMap or Secret as files; the Secret volume says ``secretName`` where others say ``name``."""

    name: str = ""
    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class HostPath(_Read, frozen=True):
    path: str
    type: str = ""


class Volume(_Read, frozen=True):
    """Exactly one of the others is set; what is none of these is not supported."""

    name: str
    config_map: FileSource | None = None
    secret: FileSource | None = None
    empty_dir: dict[str, Any] | None = None
    host_path: HostPath | None = None


class DnsOption(_Read, frozen=True):
    name: str
    value: str = ""


class DnsConfig(_Read, frozen=True):
    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[DnsOption, ...] = ()


class HostAlias(_Read, frozen=True):
    ip: str
    hostnames: tuple[str, ...] = ()


class ReadinessGate(_Read, frozen=True):
    condition_type: str


class PodSpec(_Read, frozen=True):
    containers: tuple[Container, ...]
    node_name: str = ""
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: int = 30
    host_network: bool = False
    host_pid: bool = msgspec.field(name="hostPID", default=False)
    hostname: str = ""
    subdomain: str = ""
    set_hostname_as_fqdn: bool = msgspec.field(name="setHostnameAsFQDN", default=False)
    hostname_override: str = ""
    host_aliases: tuple[HostAlias, ...] = ()
    enable_service_links: bool = True
    service_account_name: str = "default"
    security_context: SecurityContext = SecurityContext()
    dns_policy: str = "ClusterFirst"
    dns_config: DnsConfig = DnsConfig()
    readiness_gates: tuple[ReadinessGate, ...] = ()


class Condition(_Read, frozen=True):
    """Read, and also written back in ``status``."""

    type: str
    status: str
    last_transition_time: str | None = None
    reason: str = ""
    message: str = ""


class PodStatus(_Read, frozen=True):
    phase: str = "Pending"
    start_time: str = ""
    conditions: tuple[Condition, ...] = ()


class Metadata(_Read, frozen=True):
    name: str
    namespace: str
    uid: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class Pod(_Read, frozen=True):
    metadata: Metadata
    spec: PodSpec
    status: PodStatus = PodStatus()

    @property
    def title(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def finished(self) -> bool:
        """Whether the API knows that it has ended and is not to be run again."""
        return self.status.phase in ("Succeeded", "Failed")


PODS: Resource[Pod] = Resource("", "v1", "pods", "Pod", Pod)
