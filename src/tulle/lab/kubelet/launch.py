"""Turns a container of a Pod into a running process: image, environment, root, bundle, crun."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

import tulle
from tulle.errors import ApiError, ApiUnreachable, ConfigError, KernelError, LabError
from tulle.lab import cgroup
from tulle.lab.kubelet import bundle, files, images, rootfs, sources, volumes
from tulle.lab.kubelet.config import Kit
from tulle.lab.kubelet.environment import environment
from tulle.lab.kubelet.images import Image
from tulle.lab.kubelet.links import links
from tulle.lab.kubelet.objects import Container, Pod
from tulle.lab.kubelet.sandbox import Sandbox

NOT_LOADED: Final = "ErrImageNeverPull"


class CannotStart(LabError):
    """``reason`` is what the container then waits for, as Kubernetes names it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a Pod's containers share. ``fields`` is what ``fieldRef`` can name, ``etc`` its own files."""

    pod: Pod
    sandbox: Sandbox
    ips: tuple[str, ...]
    fields: Mapping[str, str]
    volumes: Mapping[str, Path]
    etc: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Launched:
    pid: int
    image_id: str


def find_image(kit: Kit, container: Container) -> Image:
    """Raises ``CannotStart`` for an image that was not loaded: nothing is ever pulled."""
    image = images.find(Path(kit.config.images), container.image)
    if image is None:
        lab = "" if kit.config.lab == "default" else f" --name {kit.config.lab}"
        raise CannotStart(
            NOT_LOADED,
            f'image "{container.image}" is not in the lab; load it with: tulle lab load{lab} FILE '
            '(an OCI or docker archive), or use image "host", the machine\'s own programs',
        )
    return image


async def launch(
    kit: Kit, around: Surroundings, container: Container, container_id: str, folder: Path, output: Path
) -> Launched:
    """Starts the container with its bundle in ``folder``. Raises ``CannotStart``."""
    image = find_image(kit, container)
    try:
        parts = await _parts(kit, around, container, image, folder)
        config = bundle.configuration(around.pod, container, parts)
    except (ConfigError, ApiError, ApiUnreachable, KernelError, OSError) as error:
        raise CannotStart("CreateContainerConfigError", str(error)) from error
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    group = kit.config.group(around.pod.metadata.uid, container.name)
    cgroup.kill(group)
    try:
        async with kit.slots:
            pid = await kit.runtime.start(container_id, folder, group, output)
    except LabError as error:
        raise CannotStart("CreateContainerError", str(error)) from error
    return Launched(pid, image.id)


async def _parts(
    kit: Kit, around: Surroundings, container: Container, image: Image, folder: Path
) -> bundle.Parts:
    data = await sources.fetch(kit.client, around.pod)
    of_services = links(around.pod, kit.services.objects)
    own = environment(container, around.pod, around.fields, data, of_services)
    of_image = dict(variable.partition("=")[::2] for variable in image.config.environment)
    hostname = around.sandbox.record.hostname
    root = rootfs.mount(folder, image, around.etc)
    return bundle.Parts(
        image=image,
        root=root,
        user=rootfs.user(root, image.config.user),
        environment={**of_image, "HOSTNAME": hostname, **own},
        namespaces={
            "network": around.sandbox.namespace("net"),
            "ipc": around.sandbox.namespace("ipc"),
            "uts": around.sandbox.namespace("uts"),
        },
        grantable=_grantable(),
        binds=[
            *(_elsewhere() if image.is_machine else ()),
            *in_order(volumes.binds(container, around.volumes), files.binds(container, around.etc)),
        ],
    )


def in_order(*binds: list[dict[str, object]]) -> list[dict[str, object]]:
    """Outer ones first, so that a volume at ``/etc`` does not hide the files that belong into it."""
    return sorted((bind for some in binds for bind in some), key=lambda b: str(b["destination"]).count("/"))


def _elsewhere() -> list[dict[str, Any]]:
    """Where Tulle's own programs are, if that is not on the root file system, all that overlayfs shows."""
    here = {Path(sys.prefix), Path(sys.base_prefix), Path(tulle.__file__).parent}
    root = Path("/").stat().st_dev
    return [
        {
            "destination": str(path),
            "type": "bind",
            "source": str(path),
            "options": ["rbind", "rprivate", "ro"],
        }
        for path in sorted(here)
        if path.stat().st_dev != root
    ]


@functools.cache
def _grantable() -> frozenset[str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    mask = next(line.split()[1] for line in lines if line.startswith("CapBnd:"))
    return bundle.capabilities_in(int(mask, 16))
