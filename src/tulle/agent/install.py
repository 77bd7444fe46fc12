"""What the container runtime needs to find the network: the plugin, and the configuration that names it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import msgspec

from tulle.agent.settings import Settings
from tulle.errors import ConfigError

CONFLIST = "10-tulle.conflist"
PLUGIN = "tulle-cni"


def make_folder(field: str, path: str) -> Path:
    """The folder that a setting names. Raises ``ConfigError`` where it cannot be made."""
    folder = Path(path)
    with _written_for(field):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def install_plugin(settings: Settings) -> None:
    """Puts ``tulle-cni`` into the runtime's plugin folder, whole or not at all. Raises ``ConfigError``."""
    folder = Path(settings.cni_bin_dir)
    source = Path(str(files("tulle"))) / "_native" / PLUGIN
    target = folder / PLUGIN
    partial = folder / f".{PLUGIN}.{os.getpid()}"
    with _written_for("cniBinDir"):
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.read_bytes() == source.read_bytes():
            return
        shutil.copyfile(source, partial)
        partial.chmod(0o755)
        partial.replace(target)


def write_conflist(settings: Settings) -> None:
    """Tells the runtime that Pods can be connected; with it a Node becomes Ready (N-13).

    ``cniVersion`` is for runtimes that do not know ``cniVersions``, the others take the highest of both.
    Raises ``ConfigError``.
    """
    conflist = {
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": "tulle",
        "plugins": [
            {
                "type": PLUGIN,
                "agentSocket": str(settings.socket),
                "capabilities": {"portMappings": True},
            }
        ],
    }
    folder = Path(settings.cni_conf_dir)
    text = msgspec.json.format(msgspec.json.encode(conflist), indent=2) + b"\n"
    target = folder / CONFLIST
    partial = folder / f".{CONFLIST}.{os.getpid()}"
    with _written_for("cniConfDir"):
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.read_bytes() == text:
            return
        partial.write_bytes(text)
        partial.replace(target)


@contextmanager
def _written_for(field: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename
        raise ConfigError(
            f"{field}: {where}: {error.strerror}; a folder that can be written to is right"
        ) from error
