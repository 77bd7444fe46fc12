"""The CustomResourceDefinitions of Tulle's own resources: a YAML file for each, which kubectl takes, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec


def crds() -> list[dict[str, Any]]:
    """All of them, in the order of their file names."""
    files = sorted(Path(__file__).parent.glob("*.yaml"))
    return [msgspec.yaml.decode(file.read_bytes()) for file in files]
