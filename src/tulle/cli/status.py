"""``tulle status``."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tulle.agent.bgp.status import BgpSession
    from tulle.agent.pool_status import PoolsStatus
    from tulle.agent.services.status import EndpointStatus, LeadStatus, PortStatus, ServicesStatus
    from tulle.agent.status import NodeStatus

_MOST = 20  # rows that nobody asked for


class Output(StrEnum):
    """What ``-o`` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def register(app: typer.Typer) -> None:
    """Adds the command of this module."""
    app.command()(status)


def status(
    config: Annotated[
        Path | None, typer.Option(envvar="TULLE_CONFIG", help="The agent's settings file.")
    ] = None,
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
    kubeconfig: Annotated[str, typer.Option(help="In a Pod: its service account.")] = "",
    node_name: Annotated[str, typer.Option(help="In the API. (default: the host name)")] = "",
    state_dir: Annotated[str, typer.Option(help="(default: /var/lib/tulle)", rich_help_panel="Paths")] = "",
    run_dir: Annotated[str, typer.Option(help="(default: /run/tulle)", rich_help_panel="Paths")] = "",
    bpffs: Annotated[str, typer.Option(help="(default: /sys/fs/bpf/tulle)", rich_help_panel="Paths")] = "",
) -> None:
    """Show this node as its kernel has it, and its Services beside what the API says.

    Pods, ways to other nodes, LoadBalancer IPs that this node answers for, BGP sessions, packets and drops by
    reason, host ports, Services that differ, LoadBalancerPools.
    Needs neither the agent nor the API; without the API, Services have no names.

    Exit code 1: Services or host ports differ, and still do a second later.
    json and yaml list all Services.
    """
    import asyncio

    from tulle.agent import settings
    from tulle.agent.services.status import one_service
    from tulle.agent.status import node_status
    from tulle.kernel.prerequisites import require_root

    require_root("reading eBPF maps")
    flags = {"kubeconfig": kubeconfig, "nodeName": node_name, "stateDir": state_dir, "bpffs": bpffs}
    flags["runDir"] = run_dir
    found = asyncio.run(node_status(settings.load(config, flags)))
    if service:
        chosen = one_service(found.services, service)
        if output is Output.TABLE:
            _show_one(chosen)
        else:
            _print_data(chosen, output)
        raise typer.Exit(0 if chosen.well else 1)
    if output is Output.TABLE:
        _show_node(found)
        _show_host_ports(found)
        _show_services(found.services, services)
        _show_pools(found.pools)
    else:
        _print_data(found, output)
    raise typer.Exit(0 if found.well else 1)


def _print_data(found: NodeStatus | ServicesStatus, output: Output) -> None:
    import msgspec

    if output is Output.YAML:
        typer.echo(msgspec.yaml.encode(found).decode(), nl=False)
    else:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())


def _show_node(found: NodeStatus) -> None:
    _print_table(("POD", "ADDRESSES", "LINK"), ((p.pod, ", ".join(p.ips), p.link) for p in found.pods))
    _print_table(("PREFIX", "WAY", "NODE"), ((p.prefix, p.transport, p.node) for p in found.prefixes))
    if found.announcements:
        rows = ((a.address, a.uplink, f"{a.seconds:.1f} s") for a in found.announcements)
        _print_table(("ANNOUNCED ADDRESS", "UPLINK", "FOR AT LEAST"), rows)
    _print_table(
        ("HOOK", "REASON", "PACKETS", "BYTES"),
        ((c.hook, c.reason, str(c.packets), str(c.bytes)) for c in found.packets),
    )
    if found.bgp:
        _print_table(
            ("BGP PEER", "ADDRESS", "ASN", "STATE", "SINCE", "PREFIXES", "WHY"), map(_bgp_row, found.bgp)
        )


def _bgp_row(session: BgpSession) -> tuple[str, ...]:
    numbers = f"{session.local_asn} to {session.asn}"
    where = (session.peer, session.address, numbers)
    return *where, session.state, session.since, str(session.announced), session.message


def _show_pools(found: PoolsStatus) -> None:
    """Nothing where there are none."""
    from tulle.cli import status_pools

    if found.pools:
        typer.echo()
        _print_table(status_pools.HEADS, status_pools.rows(found))
    for line in status_pools.remarks(found):
        typer.echo(line)


def _show_host_ports(found: NodeStatus) -> None:
    from tulle.cli.host_ports import HEADS, rows

    if found.host_ports:
        _print_table(HEADS, rows(found.host_ports))


def _show_services(found: ServicesStatus, everything: bool) -> None:
    """A few lines, then a row for each port; with thousands of Services, only for those to look at."""
    differing = [port for port in found.ports if port.differences]
    _show_summary(found, len(differing) + len(found.differences))
    chosen = found.ports if everything else differing[:_MOST]
    if chosen:
        typer.echo()
        heads = ("SERVICE", "PORT", "FRONTEND", "ENDPOINTS", "AFFINITY", "EMPTY", "HITS", "DIFFERENCE")
        _print_table(heads, map(_port_row, chosen))
    if not everything and len(differing) > _MOST:
        typer.echo(f"And {len(differing) - _MOST} more that differ: --services, or -o json, lists them all.")


def _show_summary(found: ServicesStatus, differing: int) -> None:
    hits = sum(each.hits for port in found.ports for each in port.sets)
    there = sum(bool(port.sets) for port in found.ports)
    as_wanted = "all as the API says" if found.balanced else "none, as this node's settings say"
    verdict = as_wanted if found.well else f"{differing} things differ from what the API says"
    if found.api_error:
        verdict = f"only the kernel's side is shown, as the API did not answer: {found.api_error}"
    ports = "1 port" if there == 1 else f"{there} ports"
    typer.echo(f"Services: {ports} in the kernel, {hits} times an endpoint was chosen; {verdict}.")
    typer.echo(f"Service CIDRs: {', '.join(found.cidrs) or 'none'}")
    if found.own_addresses:
        typer.echo(f"Left to this node, which has the address itself: {', '.join(found.own_addresses)}")
    typer.echo(f"Node ports are reached at: {', '.join(found.node_port_addresses) or 'no address'}")
    kinds = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in found.clients.items())
    typer.echo(f"Network namespaces with Services: {kinds}")
    sizes = ", ".join(f"{name} {size.used} of {size.most}" for name, size in found.sizes.items())
    typer.echo(f"Entries: {sizes}")
    for line in (*found.differences, *(each.message for each in found.problems[:_MOST])):
        typer.echo(f"! {line}")


def _port_row(port: PortStatus) -> tuple[str, ...]:
    there = sum(bool(endpoint.in_kernel) for endpoint in port.endpoints)
    known = len(port.endpoints)
    more = len(port.differences) - 1
    first = port.sets[0] if port.sets else None
    return (
        port.service or "?",
        port.port,
        ", ".join(port.frontends) + (" (of this node)" if port.of_node else ""),
        str(there) if there == known else f"{there} of {known}",
        _seconds(first.affinity) if first else "",
        ", ".join(dict.fromkeys(each.when_empty or "" for each in port.sets)),
        str(sum(each.hits for each in port.sets)) if first else "",
        "".join(port.differences[:1]) + (f" (and {more} more)" if more > 0 else ""),
    )


def _seconds(affinity: int | None) -> str:
    return f"{affinity} s" if affinity else ("" if affinity is None else "none")


def _show_one(found: ServicesStatus) -> None:
    """Each port with all that leads to it, and all its endpoints."""
    if found.api_error:
        typer.echo(f"Only the kernel's side is shown, as the API did not answer: {found.api_error}.\n")
    for port in found.ports:
        name = " ".join(filter(None, (port.service or "?", port.port, port.protocol)))
        typer.echo(f"{name} at {', '.join(port.frontends)}")
        if port.of_node:
            typer.echo("  left to this node, which has the address itself")
        for each in port.sets:
            affinity = _seconds(each.affinity) or "?"
            typer.echo(
                f"  policy {each.traffic}: index {each.index}, affinity {affinity}, "
                f"when empty {each.when_empty or '?'}, hits {each.hits}"
            )
        _print_table(("  FRONTEND", "IS", "FROM HERE", "FROM OUTSIDE", "LETS IN"), map(_lead_row, port.leads))
        heads = ("  ENDPOINT", "KERNEL", "API", "STATE", "NODE", "HINTS", "WHY")
        _print_table(heads, map(_endpoint_row, port.endpoints))
        for line in port.differences:
            typer.echo(f"! {line}")
        typer.echo()
    for problem in found.problems:
        typer.echo(f"! {problem.message}")


def _lead_row(lead: LeadStatus) -> tuple[str, ...]:
    sources = "all" if lead.sources is None else ", ".join(lead.sources) or "nobody"
    return (f"  {lead.frontend}", lead.kind, lead.inside, lead.outside, sources)


def _endpoint_row(endpoint: EndpointStatus) -> tuple[str, ...]:
    names = {"ready": endpoint.ready, "serving": endpoint.serving, "terminating": endpoint.terminating}
    hints = [f"node {name}" for name in endpoint.nodes] + [f"zone {name}" for name in endpoint.zones]
    return (
        f"  {endpoint.endpoint}",
        _used(endpoint.in_kernel),
        "unknown" if endpoint.used is None else _used(endpoint.used),
        ", ".join(name for name, said in names.items() if said),
        {True: "this", False: "other", None: ""}[endpoint.local],
        ", ".join(hints),
        endpoint.why,
    )


def _used(policies: tuple[str, ...]) -> str:
    return ", ".join(policies) or "not used"


def _print_table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Into a file or a pipe, too, in lines that are not broken where a terminal would end."""
    import sys

    from rich.console import Console
    from rich.table import Table

    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False)
    console.print(table, "")
