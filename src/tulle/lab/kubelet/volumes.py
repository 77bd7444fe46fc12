"""A Pod's volumes as folders and files of the machine, ready to be bound into containers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tulle.errors import ConfigError
from tulle.lab.kubelet.environment import Data
from tulle.lab.kubelet.objects import Container, FileSource, Pod, Volume


@dataclass(frozen=True, slots=True)
class File:
    """A file of a volume; ``path`` is relative to it."""

    path: str
    content: bytes
    mode: int


def prepare(folder: Path, pod: Pod, data: Data) -> dict[str, Path]:
    """Makes every volume of the Pod below ``folder``; where each is. Raises ``ConfigError``."""
    return {volume.name: _prepare(folder / volume.name, volume, pod, data) for volume in pod.spec.volumes}


def _prepare(folder: Path, volume: Volume, pod: Pod, data: Data) -> Path:
    if volume.host_path:
        path = Path(volume.host_path.path)
        if volume.host_path.type == "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            raise ConfigError(f"volume {volume.name}: hostPath {path} does not exist on this machine")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    if volume.empty_dir is not None:
        _share(folder, pod.spec.security_context.fs_group)
        return folder
    for file in _files(volume, data):
        _write(folder, file)
    return folder


def _share(folder: Path, group: int | None) -> None:
    if group is not None:
        os.chown(folder, -1, group)
    folder.chmod(0o777 if group is None else 0o2777)


def _files(volume: Volume, data: Data) -> Iterator[File]:
    if volume.config_map:
        return _keys("ConfigMap", volume.config_map.name, volume.config_map, data)
    if volume.secret:
        return _keys("Secret", volume.secret.secret_name, volume.secret, data)
    raise ConfigError(
        f"volume {volume.name}: its kind is not supported here; use emptyDir, configMap, secret or hostPath"
    )


def _keys(kind: str, name: str, source: FileSource, data: Data) -> Iterator[File]:
    values = data(kind, name)
    if values is None:
        if source.optional:
            return
        raise ConfigError(f"{kind} {name} does not exist, or this node may not read it")
    if not source.items:
        yield from (File(key, value, source.default_mode) for key, value in values.items())
    for item in source.items:
        if item.key in values:
            yield File(item.path, values[item.key], item.mode or source.default_mode)
        elif not source.optional:
            raise ConfigError(f"{kind} {name} has no key {item.key}")


def _write(folder: Path, file: File) -> None:
    parts = PurePosixPath(file.path).parts
    if ".." in parts or file.path.startswith("/"):
        raise ConfigError(f"volume {folder.name}: path {file.path!r} leads out of the volume")
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.content)
    path.chmod(file.mode)


def binds(container: Container, volumes: Mapping[str, Path]) -> list[dict[str, object]]:
    """The container's ``volumeMounts`` as OCI mounts. Raises ``ConfigError``."""
    result: list[dict[str, object]] = []
    for mount in container.volume_mounts:
        if mount.name not in volumes:
            raise ConfigError(f"volumeMounts: the Pod has no volume {mount.name!r}")
        source = volumes[mount.name]
        if mount.sub_path:
            source = (source / mount.sub_path).resolve()
            if not source.is_relative_to(volumes[mount.name].resolve()):
                raise ConfigError(f"volumeMounts: subPath {mount.sub_path!r} leads out of the volume")
            if not source.exists():
                source.mkdir(parents=True)
        options = ["rbind", "rprivate", "ro" if mount.read_only else "rw"]
        result.append(
            {"destination": mount.mount_path, "type": "bind", "source": str(source), "options": options}
        )
    return result
