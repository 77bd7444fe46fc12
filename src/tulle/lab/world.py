"""*world*, the host outside the cluster, as a client for ``tulle verify``."""

from __future__ import annotations

import sys

from tulle.lab.paths import Paths

WORLD = "world"


def probe(name: str) -> list[str]:
    """The command that runs verify's probe on the *world* of the lab of that name."""
    return ["nsenter", f"--net={Paths(name).netns(WORLD)}", sys.executable, "-m", "tulle.verify.probe"]
