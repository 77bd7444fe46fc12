"""``tulle lab``: a whole cluster on this machine. And ``tulle kubelet``, which it starts on every node."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

lab = typer.Typer(help="A whole cluster on this machine, on real network namespaces.", no_args_is_help=True)

Name = Annotated[str, typer.Option(help="Which lab; several may run side by side.")]
Command = Annotated[list[str] | None, typer.Argument(help="After --, the command and its arguments.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.add_typer(lab, name="lab")
    app.command("kubelet", hidden=True)(kubelet)


@lab.command()
def up(
    name: Name = "default",
    nodes: Annotated[int, typer.Option(help="How many nodes, 1 to 100.")] = 3,
    zones: Annotated[int, typer.Option(help="Over how many zones they are spread.")] = 2,
    subnets: Annotated[int, typer.Option(help="Over how many subnets; from 2 on, auto means overlay.")] = 1,
    ip_families: Annotated[str, typer.Option(help="The primary family first.")] = "ipv4,ipv6",
    routing: Annotated[str, typer.Option(help="auto, native or overlay.")] = "auto",
    mtu: Annotated[int, typer.Option(help="Of the underlay, in bytes.")] = 1500,
) -> None:
    """Starts a lab, or mends the one that runs: what died is started again."""
    from tulle.lab.spec import Spec, parse_families
    from tulle.lab.steps import console, step
    from tulle.lab.up import up

    spec = Spec(name, nodes, zones, subnets, parse_families(ip_families), routing, mtu).checked()
    asyncio.run(up(spec, step))
    option = "" if name == "default" else f" --name {name}"
    console.print(f"\nNext: [bold]export KUBECONFIG=$(tulle lab kubeconfig{option})[/] and use kubectl.")


@lab.command()
def down(name: Name = "default") -> None:
    """Takes a lab away without a trace, whatever state it is in."""
    from tulle.lab.down import down
    from tulle.lab.paths import Paths
    from tulle.lab.spec import Spec
    from tulle.lab.steps import console, step

    Spec(name).checked()
    with step(f"Take lab {name} away"):
        there = down(Paths(name))
    if not there:
        console.print(f"There was no lab {name}.")


@lab.command()
def status(
    name: Name = "default",
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
) -> None:
    """Shows nodes, processes and Pods; exit code 0 only when all is well."""
    import msgspec
    from rich.console import Console

    from tulle.errors import ConfigError
    from tulle.lab.overview import look, table
    from tulle.lab.up import opened

    if output not in ("table", "json"):
        raise ConfigError(f"--output {output!r} cannot be right; give table or json")
    overview = asyncio.run(look(opened(name)))
    if output == "json":
        print(msgspec.json.format(msgspec.json.encode(overview)).decode())
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(table(overview))
    raise typer.Exit(0 if overview.healthy else 1)


@lab.command()
def kubeconfig(name: Name = "default") -> None:
    """Prints the path of the kubeconfig: export KUBECONFIG=$(tulle lab kubeconfig)"""
    from tulle.lab.up import opened

    print(opened(name).paths.kubeconfig)


@lab.command("exec")
def exec_(
    pod: Annotated[str, typer.Argument(help="The Pod's name.")],
    command: Command = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n")] = "default",
    container: Annotated[str | None, typer.Option("--container", "-c")] = None,
    name: Name = "default",
) -> None:
    """Runs a command in a Pod, through the API; its exit code is ours. For a terminal: kubectl exec -it."""
    from tulle.lab.up import opened

    lab = opened(name)
    stdin = None if sys.stdin.isatty() else sys.stdin.buffer.read()

    async def run() -> int:
        async with lab.client() as client:
            result = await client.exec(namespace, pod, command or ["sh"], container, stdin)
        sys.stdout.buffer.write(result.stdout)
        sys.stderr.buffer.write(result.stderr)
        return result.exit_code

    raise typer.Exit(asyncio.run(run()))


@lab.command()
def node(
    node: Annotated[str, typer.Argument(help="node-1, node-2, …")],
    command: Command = None,
    name: Name = "default",
) -> None:
    """Runs a command, or a shell, in a node's network; `tulle status` there shows that node."""
    from tulle.lab.up import opened

    opened(name).enter(node, command or [os.environ.get("SHELL", "sh")])


@lab.command()
def world(command: Command = None, name: Name = "default") -> None:
    """Runs a command, or a shell, on the host that is outside the cluster."""
    from tulle.lab.up import opened

    opened(name).enter("world", command or [os.environ.get("SHELL", "sh")])


@lab.command()
def load(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An OCI or docker archive.")],
    name: Name = "default",
) -> None:
    """Takes images in, whose names Pods may then use."""
    from tulle.lab.images import load
    from tulle.lab.up import opened

    for image in load(opened(name).paths.images, file):
        print(image)


@lab.command()
def demo(
    name: Name = "default",
    examples: Annotated[
        Path | None, typer.Option(help="Folder of manifests, instead of Tulle's own.")
    ] = None,
) -> None:
    """A three-node cluster, a dozen Pods, and the proof that it keeps the network model."""
    from tulle.lab.demo import EXAMPLES, demo

    raise typer.Exit(asyncio.run(demo(name, examples or EXAMPLES)))


@lab.command(hidden=True)
def resolver(
    fd: Annotated[list[int], typer.Option(help="An inherited socket: bound UDP, or TCP that listens.")],
    address: Annotated[list[str], typer.Option(help="An address of the host that it names.")],
) -> None:
    """Answers for names outside the cluster; started by tulle lab up."""
    import socket
    from ipaddress import ip_address

    from tulle.lab.resolver import records, serve

    sockets = [socket.socket(fileno=each) for each in fd]
    asyncio.run(serve(sockets, records([ip_address(each) for each in address])))


def kubelet(config: Annotated[Path, typer.Argument(exists=True)]) -> None:
    """Runs the Pods of one node of a lab; started by tulle lab up."""
    from tulle.lab.kubelet.main import main

    main(config)
