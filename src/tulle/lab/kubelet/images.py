"""The images that this node's containers may use: those in the store, and the machine itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tulle.lab import images
from tulle.lab.images import ImageConfig

HOST: Final = "tulle.dev/host:latest"
"""The image name of the machine's own root file system; ``host`` for short."""

_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MACHINE = ImageConfig(environment=(_PATH,))


@dataclass(frozen=True, slots=True)
class Image:
    """``layers`` are folders, the lowest first."""

    id: str
    layers: tuple[Path, ...]
    config: ImageConfig

    @property
    def is_machine(self) -> bool:
        return self.layers == (Path("/"),)


def find(store: Path, reference: str) -> Image | None:
    """None when no image of that name was loaded."""
    name = images.normalised(reference)
    if name in (HOST, images.normalised("host")):
        return Image("tulle.dev/host", (Path("/"),), _MACHINE)
    stored = images.read(store, name)
    if stored is None:
        return None
    config = stored.config
    if not any(variable.startswith("PATH=") for variable in config.environment):
        config = ImageConfig(
            environment=(_PATH, *config.environment),
            entrypoint=config.entrypoint,
            command=config.command,
            user=config.user,
            working_dir=config.working_dir,
        )
    return Image(stored.id, tuple(images.layer_folder(store, digest) for digest in stored.layers), config)
