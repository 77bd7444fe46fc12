"""Services: a few lines, and a row for each port that one should look at; or one Service in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tulle.cli.status.tables import print_table

if TYPE_CHECKING:
    from tulle.agent.services.shown import EndpointStatus, LeadStatus, PortStatus, ServicesStatus

_MOST = 20  # rows that nobody asked for


def show(found: ServicesStatus, everything: bool) -> None:
    """A few lines, then a row for each port; with thousands of Services, only for those to look at."""
    differing = [port for port in found.ports if port.differences]
    _show_summary(found, len(differing) + len(found.differences))
    chosen = found.ports if everything else differing[:_MOST]
    if chosen:
        typer.echo()
        heads = ("SERVICE", "PORT", "FRONTEND", "ENDPOINTS", "AFFINITY", "EMPTY", "HITS", "DIFFERENCE")
        print_table(heads, map(_port_row, chosen))
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


def show_one(found: ServicesStatus) -> None:
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
        print_table(("  FRONTEND", "IS", "FROM HERE", "FROM OUTSIDE", "LETS IN"), map(_lead_row, port.leads))
        heads = ("  ENDPOINT", "KERNEL", "API", "STATE", "NODE", "HINTS", "WHY")
        print_table(heads, map(_endpoint_row, port.endpoints))
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
