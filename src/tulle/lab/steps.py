"""Shows on the terminal what goes on, and how long each step took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False)


@contextmanager
def step(title: str) -> Iterator[None]:
    """A spinner while the block runs, then a line with its time in seconds."""
    began = time.monotonic()
    mark = "[red]✗[/]"
    try:
        with console.status(title):
            yield
        mark = "[green]✓[/]"
    finally:
        console.print(f"{mark} {title:<42} [dim]{time.monotonic() - began:6.2f} s[/]")
