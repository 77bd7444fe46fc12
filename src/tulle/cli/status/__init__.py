"""``tulle status``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tulle.cli.settings import with_settings

if TYPE_CHECKING:
    from tulle.agent.services.shown import ServicesStatus
    from tulle.agent.settings import Settings
    from tulle.agent.status import NodeStatus


class Output(StrEnum):
    """What ``-o`` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def register(app: typer.Typer) -> None:
    """Adds the command of this module."""
    app.command()(status)


@with_settings("kubeconfig", "nodeName", "stateDir", "runDir", "bpffs")
def status(
    settings: Settings,
    *,
    services: Annotated[
        bool, typer.Option("--services", help="List all Services, not only those that differ.")
    ] = False,
    service: Annotated[
        str,
        typer.Option(
            metavar="NAMESPACE/NAME",
            help="Show one Service in full: each endpoint, its state, and why it is not used here. An IP "
            "address does, too.",
        ),
    ] = "",
    output: Annotated[Output, typer.Option("--output", "-o", help="For people, or for machines.")] = (
        Output.TABLE
    ),
) -> None:
    """Show this node as its kernel has it, and its Services beside what the API says.

    Pods and their host ports, ways to other nodes, packets and drops by reason,
    Services that differ, LoadBalancerPools, and which of their addresses this
    node answers for; BGP sessions.
    Needs neither the agent nor the API; without the API, Services have no names.

    Exit code 1: Services or host ports differ, and still do a second later.
    json and yaml list all Services.
    """
    import asyncio

    from tulle.agent.services.shown import one_service
    from tulle.agent.status import node_status
    from tulle.cli.status import host_ports, node, pools
    from tulle.cli.status import services as services_table
    from tulle.kernel.prerequisites import require_root

    require_root("reading eBPF maps")
    found = asyncio.run(node_status(settings))
    if service:
        chosen = one_service(found.services, service)
        if output is Output.TABLE:
            services_table.show_one(chosen)
        else:
            _print_data(chosen, output)
        raise typer.Exit(0 if chosen.well else 1)
    if output is Output.TABLE:
        node.show(found)
        host_ports.show(found.host_ports)
        services_table.show(found.services, services)
        pools.show(found.pools)
    else:
        _print_data(found, output)
    raise typer.Exit(0 if found.well else 1)


def _print_data(found: NodeStatus | ServicesStatus, output: Output) -> None:
    import msgspec

    if output is Output.YAML:
        typer.echo(msgspec.yaml.encode(found).decode(), nl=False)
    else:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
