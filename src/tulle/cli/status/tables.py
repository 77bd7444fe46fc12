"""How tables are printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def print_table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Into a file or a pipe, too, in lines that are not broken where a terminal would end."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False)
    console.print(table, "")
