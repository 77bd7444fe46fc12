"""What a kubelet that is started anew must know of the Pods that went on without it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

R = TypeVar("R", bound=msgspec.Struct)


class Terminated(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """As in ``containerStatuses[].state.terminated``."""

    exit_code: int
    reason: str
    started_at: str
    finished_at: str
    container_id: str = msgspec.field(name="containerID")
    message: str = ""


class ContainerRecord(msgspec.Struct):
    """One container's past. It runs when ``pid`` is not 0; ``born`` tells its process from a later one.

    ``attempt`` counts starts, so the restart count is one less.
    """

    id: str = ""
    pid: int = 0
    born: int = 0
    attempt: int = 0
    started_at: str = ""
    image_id: str = ""
    ended: Terminated | None = None
    last: Terminated | None = None


class SandboxRecord(msgspec.Struct):
    """A Pod's namespaces. ``network`` is the CNI configuration that ADD used: DEL must use the same.

    It is written before ADD is called and ``ips`` after it, so that no ADD is ever without its DEL.
    ``port_mappings``: as plugins are given them.
    """

    id: str
    namespace: str
    name: str
    uid: str
    hostname: str
    ips: tuple[str, ...] = ()
    network: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    port_mappings: tuple[dict[str, Any], ...] = ()


def write(path: Path, record: msgspec.Struct) -> None:
    """Replaces the file at once: a reader sees the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.encode(record))
    draft.replace(path)


def read(path: Path, kind: type[R]) -> R | None:
    """None when there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
