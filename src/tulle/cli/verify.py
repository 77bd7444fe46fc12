"""``tulle verify`` and ``tulle probe``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from tulle.kube.config import ClusterConfig
    from tulle.verify.run import Options, Verdict
    from tulle.verify.statements import Family


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(verify)
    # `tulle probe` parses its own arguments: it must also run where nothing but Python is installed.
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command(hidden=True, context_settings=passed_on)(probe)


def verify(
    output: Annotated[
        Literal["table", "json"], typer.Option("-o", "--output", help="For people, or for machines.")
    ] = "table",
    families: Annotated[
        str, typer.Option(help="IPv4, IPv6 or IPv4,IPv6. (default: those that Pods have)", show_default=False)
    ] = "",
    timeout: Annotated[float, typer.Option(help="Seconds for the Pods to become Ready.", min=1)] = 60.0,
    check_timeout: Annotated[float, typer.Option(help="Seconds for a single check.", min=0.1)] = 3.0,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="(default: $KUBECONFIG, the Pod it runs in, ~/.kube/config)")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
    image: Annotated[
        str | None,
        typer.Option(help="An image with Python 3.11 and Tulle. (default: Tulle's; in a lab, this machine)"),
    ] = None,
    outside: Annotated[
        str,
        typer.Option(
            metavar="COMMAND",
            help="Runs the probe on a machine that is no node, such as 'ssh client tulle probe'. "
            "(default: in a lab, its world)",
            show_default=False,
        ),
    ] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the Pods for a closer look.")] = False,
) -> None:
    """Prove the Kubernetes network model, Services and names on a live cluster, whoever built its network.

    Three Pods are started on each node, in a namespace of their own that is deleted at the end, and
    everyone talks to everyone, to a set of Services, and to the cluster DNS. Nodes ask each other for
    Services from outside; so does a machine that is no node, if there is one. Exit code 0: every sentence
    holds; 1: one does not. A cluster without Services or DNS fails, and is told so.
    """
    import shlex

    from tulle.kube.config import resolve
    from tulle.lab.world import probe
    from tulle.verify.run import Options

    command = shlex.split(outside)
    options = Options(_families(families), timeout, check_timeout, image, keep, command, probe)
    verdict = _run(resolve(kubeconfig, context), options)
    _show(verdict, output, keep)
    raise typer.Exit(0 if verdict.ok else 1)


def probe(context: typer.Context) -> None:
    """What `tulle verify` runs in Pods."""
    from tulle.verify.probe.__main__ import main

    raise typer.Exit(main(context.args))


def _families(text: str) -> tuple[Family, ...] | None:
    from tulle.errors import ConfigError
    from tulle.verify.statements import FAMILIES

    if not text:
        return None
    asked = {part.strip().lower() for part in text.split(",")}
    chosen = tuple(family for family in FAMILIES if family.lower() in asked)
    if len(chosen) != len(asked):
        raise ConfigError(f"--families {text!r} cannot be right; give IPv4, IPv6 or IPv4,IPv6")
    return chosen


def _run(config: ClusterConfig, options: Options) -> Verdict:
    """With a progress bar on the terminal, if there is one. Ctrl-C still deletes the namespace."""
    import asyncio
    import signal

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from tulle.kube.client import Client
    from tulle.verify import run as verification

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())

    async def run() -> Verdict:
        task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel if task else lambda: None)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            stages = {}

            def progress(stage: str, done: int, total: int) -> None:
                if stage not in stages:
                    stages[stage] = bar.add_task(stage, total=total)
                bar.update(stages[stage], completed=done, total=total)

            async with Client(config) as client:
                return await verification.verify(client, options, progress)

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise typer.Exit(130) from None


def _show(verdict: Verdict, output: str, keep: bool) -> None:
    import sys

    import msgspec
    from rich.console import Console

    from tulle.verify.report import show

    for note in verdict.notes:
        print(f"tulle: {note}", file=sys.stderr)
    if output == "json":
        print(msgspec.json.format(msgspec.json.encode(verdict.rows)).decode())
    else:
        show(verdict.rows, Console())
    if keep:
        print(f"tulle: the Pods are kept in the namespace {verdict.namespace}", file=sys.stderr)
