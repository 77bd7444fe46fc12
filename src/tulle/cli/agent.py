"""``tulle agent``, ``tulle uninstall``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tulle.cli.settings import with_settings

if TYPE_CHECKING:
    from tulle.agent.settings import Settings


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(agent)
    app.command()(uninstall)


@with_settings()
def agent(settings: Settings) -> None:
    """Run the agent of one node: connects its Pods, and keeps the way to the other nodes.

    It serves the container runtime's CNI calls and follows the cluster's Nodes. Packets never pass it:
    stop it, and all that is connected stays connected.
    """
    import uvloop

    from tulle import logs
    from tulle.agent import run

    logs.to_stderr(settings.log_level)
    uvloop.run(run.run(settings))


@with_settings("stateDir", "runDir", "bpffs", "cniConfDir", "cniBinDir")
def uninstall(settings: Settings) -> None:
    """Take away what an agent left on this node, once no Pod is connected and the agent has ended."""
    import asyncio

    from tulle.agent.uninstall import uninstall
    from tulle.kernel.prerequisites import require_root

    require_root("taking away eBPF programs and routes")
    asyncio.run(uninstall(settings))
