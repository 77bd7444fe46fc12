"""``tulle dns``: the cluster's DNS server of one node."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("dns")(dns)


def dns(
    listen: Annotated[
        list[str] | None,
        typer.Option(help="An address to answer on, as a rule the cluster's DNS address. Repeatable."),
    ] = None,
    assign: Annotated[
        bool, typer.Option("--assign", help="Put addresses that this machine lacks on lo, until the end.")
    ] = False,
    port: Annotated[int, typer.Option(help="UDP and TCP.")] = 53,
    http_port: Annotated[int, typer.Option(help="Serves /metrics, /health and /ready.")] = 9153,
    zone: Annotated[str, typer.Option(help="The cluster's domain.")] = "cluster.local",
    kubeconfig: Annotated[str, typer.Option(help="In a Pod: its service account.")] = "",
    node_name: Annotated[str, typer.Option(help="In the API. (default: the host name)")] = "",
    upstream_file: Annotated[
        str, typer.Option(help="Its nameservers are asked for names outside the zone.")
    ] = "/etc/resolv.conf",
    corefile: Annotated[
        str, typer.Option(help="A Corefile. (default: the ConfigMap kube-system/coredns)")
    ] = "",
    state_dir: Annotated[str, typer.Option(help="Keeps what the API last said.")] = "/var/lib/tulle",
    log_queries: Annotated[bool, typer.Option("--log-queries", help="Log each query.")] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Answer DNS queries for the cluster's Services and Pods; others go to upstreams.

    Goes on answering without the API, also after a restart. Started beside one that runs with the same
    addresses, it takes its sockets over without losing a query, and the other one ends.
    """
    import msgspec

    from tulle.dns import supervisor
    from tulle.dns.settings import Settings

    settings = Settings(
        listen=tuple(listen or ()),
        port=port,
        http_port=http_port,
        zone=zone,
        node_name=node_name or socket.gethostname().lower(),
        kubeconfig=kubeconfig,
        upstream_file=upstream_file,
        corefile=corefile,
        state_dir=state_dir,
        log_queries=log_queries,
        log_level=log_level,
    )
    settings.check()
    python = sys.executable
    if assign:
        from tulle.dns.assign import assign as assign_addresses

        assign_addresses(settings.listen)
    given = {
        "listen": settings.listen,
        "port": port,
        "http_port": http_port,
        "worker": [python, "-P", "-m", "tulle.dns.worker", msgspec.json.encode(settings).decode()],
        "release": [python, "-P", "-m", "tulle.dns.assign", *settings.listen] if assign else [],
    }
    # The supervisor must be small: it begins anew, without all that the command line needed.
    program = str(Path(supervisor.__file__))
    os.execv(python, [python, "-I", "-S", program, msgspec.json.encode(given).decode()])
