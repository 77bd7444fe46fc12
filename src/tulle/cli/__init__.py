"""The command line. Each module here adds its commands; what they need is imported when they run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tulle import __version__
from tulle.cli import agent, apiserver, controller, dns, lab, status, verify
from tulle.errors import TulleError

app = typer.Typer(
    name="tulle",
    help="A Kubernetes network that is small, fast and see-through.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tulle {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and exit.")
]


@app.callback()
def _root(version: Version = False) -> None:
    pass


for module in (lab, verify, status, agent, controller, apiserver, dns):
    module.register(app)


def main() -> None:
    """Runs a command; an error that Tulle foresaw is one line and its exit code, never a traceback."""
    try:
        app()
    except TulleError as error:
        print(f"tulle: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
