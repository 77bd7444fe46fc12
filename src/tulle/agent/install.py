"""What the container runtime needs to find the network: the plugin, and the configuration that names it."""

from __future__ import annotations

import os
import shutil
from importlib.resources import files
from pathlib import Path

import msgspec

from tulle.agent.settings import Settings

CONFLIST = "10-tulle.conflist"
PLUGIN = "tulle-cni"


def install_plugin(folder: Path) -> None:
    """Puts ``tulle-cni`` into the runtime's plugin folder, whole or not at all. Raises ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(str(files("tulle"))) / "_native" / PLUGIN
    target = folder / PLUGIN
    if target.exists() and target.read_bytes() == source.read_bytes():
        return
    partial = folder / f".{PLUGIN}.{os.getpid()}"
    shutil.copyfile(source, partial)
    partial.chmod(0o755)
    partial.replace(target)


def write_conflist(settings: Settings) -> None:
    """Tells the runtime that Pods can be connected; with it a Node becomes Ready (N-13).

    ``cniVersion`` is for runtimes that do not know ``cniVersions``, the others take the highest of both.
    Raises ``OSError``.
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
    folder.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(conflist), indent=2) + b"\n"
    target = folder / CONFLIST
    if target.exists() and target.read_bytes() == text:
        return
    partial = folder / f".{CONFLIST}.{os.getpid()}"
    partial.write_bytes(text)
    partial.replace(target)
