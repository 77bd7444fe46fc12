"""The OCI runtime configuration of a container (runtime specification 1.0). No I/O."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tulle
from tulle.errors import ConfigError
from tulle.lab.kubelet.environment import expand
from tulle.lab.kubelet.images import Image
from tulle.lab.kubelet.objects import Container, Pod
from tulle.lab.kubelet.rootfs import MACHINE_TMPFS

Json = dict[str, Any]

_DEFAULT_CAPABILITIES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID"),
    *("SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
)
CAPABILITIES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *(
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
    ),
    *(
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
    ),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL"),
    *("SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ"),
    *("PERFMON", "BPF", "CHECKPOINT_RESTORE"),
)
"""In the order of their numbers (``linux/capability.h``)."""

_MASKED: Final = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware")
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_UNPRIVILEGED: Final = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}
"""What containerd and CRI-O allow the processes of a Pod with a network of its own."""

_INSTALLATION: Final = (sys.prefix, sys.base_prefix, str(Path(tulle.__file__).parent.parent))
"""Where Tulle and its Python are: the machine's containers see them also where they see nothing else."""

_QUIET: Final = ("nosuid", "noexec", "nodev")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the configuration is made of beside Pod and container.

    ``namespaces`` are paths by OCI type; ``grantable`` are the capabilities that this machine lets us have.
    """

    image: Image
    root: Path
    user: tuple[int, int]
    environment: Mapping[str, str]
    namespaces: Mapping[str, Path]
    binds: Sequence[Json]
    grantable: frozenset[str] = frozenset(CAPABILITIES)


def arguments(container: Container, image: Image, variables: Mapping[str, str]) -> list[str]:
    """``command`` replaces the image's entrypoint and, with it, its command; ``args`` only the command.

    Raises ``ConfigError`` when nothing is left to run.
    """
    command = container.command or image.config.entrypoint
    args = container.args or (() if container.command else image.config.command)
    line = [expand(word, variables) for word in (*command, *args)]
    if not line:
        raise ConfigError(f"container {container.name}: neither it nor the image says which command to run")
    return line


def configuration(pod: Pod, container: Container, parts: Parts) -> Json:
    """The content of ``config.json``. Raises ``ConfigError``."""
    privileged = container.security_context.privileged
    linux: Json = {"namespaces": _namespaces(pod, parts)}
    if not pod.spec.host_network:
        settings = {s.name: s.value for s in pod.spec.security_context.sysctls}
        linux["sysctl"] = _UNPRIVILEGED | settings
    if not privileged:
        linux |= {"maskedPaths": list(_MASKED), "readonlyPaths": list(_READ_ONLY)}
    return {
        "ociVersion": "1.0.2",
        "process": process(pod, container, parts),
        "root": {
            "path": str(parts.root),
            "readonly": container.security_context.read_only_root_filesystem,
        },
        "mounts": [*_mounts(parts.image, privileged), *parts.binds],
        "linux": linux,
    }


def process(pod: Pod, container: Container, parts: Parts) -> Json:
    """The main process; exec uses the same with another command line."""
    context = container.security_context
    of_pod = pod.spec.security_context
    uid = _first(context.run_as_user, of_pod.run_as_user, parts.user[0])
    gid = _first(context.run_as_group, of_pod.run_as_group, parts.user[1])
    groups = [*of_pod.supplemental_groups, *([of_pod.fs_group] if of_pod.fs_group is not None else [])]
    capabilities = _capabilities(container, parts.grantable)
    effective = capabilities if uid == 0 else []
    return {
        "terminal": False,
        "user": {"uid": uid, "gid": gid, "additionalGids": groups},
        "args": arguments(container, parts.image, parts.environment),
        "env": [f"{name}={value}" for name, value in parts.environment.items()],
        "cwd": container.working_dir or parts.image.config.working_dir or "/",
        "noNewPrivileges": not (context.allow_privilege_escalation or context.privileged),
        "capabilities": {"bounding": capabilities, "effective": effective, "permitted": effective},
    }


def _first(*choices: int | None) -> int:
    return next(choice for choice in choices if choice is not None)


def capabilities_in(mask: int) -> frozenset[str]:
    """The capabilities in a bit mask such as ``CapBnd`` in ``/proc/self/status``."""
    return frozenset(name for number, name in enumerate(CAPABILITIES) if mask >> number & 1)


def _capabilities(container: Container, grantable: frozenset[str]) -> list[str]:
    """Asked for by name: exactly these. Asked for by ``ALL`` or ``privileged``: those that there are."""
    context = container.security_context
    add, drop = (
        {name.removeprefix("CAP_") for name in names}
        for names in (context.capabilities.add, context.capabilities.drop)
    )
    if unknown := add - {"ALL", *CAPABILITIES}:
        raise ConfigError(f"container {container.name}: no such capability: {', '.join(sorted(unknown))}")
    base = set() if "ALL" in drop else set(_DEFAULT_CAPABILITIES) - drop
    every = grantable if context.privileged or "ALL" in add else frozenset()
    return sorted(f"CAP_{name}" for name in base & grantable | every | add - {"ALL"})


def _namespaces(pod: Pod, parts: Parts) -> list[Json]:
    shared = [{"type": kind, "path": str(path)} for kind, path in parts.namespaces.items()]
    own = ["mount"] if pod.spec.host_pid else ["mount", "pid"]
    return shared + [{"type": kind} for kind in own]


def _mounts(image: Image, privileged: bool) -> list[Json]:
    def mount(destination: str, kind: str, *options: str) -> Json:
        return {"destination": destination, "type": kind, "source": kind, "options": list(options)}

    folders = [mount(path, "tmpfs", "nosuid", "nodev", "mode=1777") for path in MACHINE_TMPFS]
    folders += [
        {"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro", "nosuid", "nodev"]}
        for path in _INSTALLATION
        if any(Path(path).is_relative_to(hidden) for hidden in MACHINE_TMPFS)
    ]
    devices: list[Json] = [
        mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        mount("/dev/shm", "tmpfs", *_QUIET, "mode=1777", "size=65536k"),
        mount("/dev/mqueue", "mqueue", *_QUIET),
    ]
    if privileged:
        devices = [
            {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rprivate"]}
        ]
    return [
        mount("/proc", "proc", *_QUIET),
        *devices,
        mount("/sys", "sysfs", *_QUIET, "rw" if privileged else "ro"),
        *(folders if image.is_machine else []),
    ]
