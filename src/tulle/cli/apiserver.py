"""``tulle apiserver``: the embedded Kubernetes API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tulle.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("apiserver")(apiserver)


def apiserver(
    state_dir: Annotated[Path, typer.Option(help="Database and certificates; made when missing.")],
    listen: Annotated[
        list[str] | None, typer.Option(help="HOST:PORT; [::1]:PORT for IPv6. Repeatable.")
    ] = None,
    listen_fd: Annotated[
        list[int] | None, typer.Option(help="An inherited TCP socket that listens already. Repeatable.")
    ] = None,
    kubeconfig_out: Annotated[
        Path | None, typer.Option(help="Where to write the administrator's kubeconfig (mode 0600).")
    ] = None,
    san: Annotated[
        list[str] | None, typer.Option(help="A further name or address to certify. Repeatable.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Bearer tokens: lines of token,user,group1|group2.", exists=True)
    ] = None,
) -> None:
    """Serves the Kubernetes API, and runs the controllers that keep Deployments and DaemonSets.

    Listens on 127.0.0.1:6443 unless --listen or --listen-fd is given. Ready when GET /readyz answers 200.
    """
    import uvloop

    from tulle import logs
    from tulle.apiserver.server import Settings, serve

    logs.to_stderr()
    addresses = [_address(each) for each in listen or ([] if listen_fd else ["127.0.0.1:6443"])]
    settings = Settings(state_dir, addresses, listen_fd or (), san or (), kubeconfig_out, token_file)
    uvloop.run(serve(settings))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--listen {text}: must be HOST:PORT such as 127.0.0.1:6443 or [::1]:6443")
    return host.strip("[]"), int(port)
