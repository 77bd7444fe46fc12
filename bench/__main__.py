"""``python -m bench [GROUP…] [--rounds N]``: measures, prints a table, leaves JSON and a picture."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import report
from bench.statistics import Figure
from tulle.errors import TulleError
from tulle.kernel import prerequisites

GROUPS = ("forward", "services", "external", "programming", "cni", "apiserver", "dns", "lab")
ROUNDS = 5
Measure = Callable[[Path, int, Callable[[str], None]], list[Figure]]


def main(
    groups: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(GROUPS)}; all if none.")] = None,
    rounds: Annotated[int, typer.Option(min=ROUNDS, help="A figure is their median.")] = ROUNDS,
    results: Annotated[Path, typer.Option(help="Where JSON and picture go.")] = Path("bench/results"),
) -> None:
    """Measures what Tulle promises. Run it as root on a machine that does nothing else."""
    console = Console()
    if unknown := set(groups or ()) - set(GROUPS):
        console.print(f"There is no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}.")
        raise typer.Exit(2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all is cleaned up
    load = os.getloadavg()[0]
    try:
        prerequisites.require_root("making network namespaces")
        figures = [f for group in groups or GROUPS for f in _measure(group, rounds, console)]
    except TulleError as error:
        console.print(f"[red]{error}[/]")
        raise typer.Exit(error.exit_code) from None
    done = report.Report(report.now(), rounds, report.here(load), tuple(figures))
    console.print(report.table(figures))
    console.print(f"\nIn full: {report.save(done, results)}, and as a picture beside it.")


def _measure(group: str, rounds: int, console: Console) -> list[Figure]:
    """A group in a folder of its own that is gone afterwards; with it go all namespaces and processes."""
    measure: Measure = import_module(f"bench.{group}").measure
    with tempfile.TemporaryDirectory(prefix="tulle-bench-") as folder, console.status(group) as status:
        return measure(Path(folder), rounds, lambda text: status.update(f"{group}: {text}"))


if __name__ == "__main__":
    typer.run(main)
