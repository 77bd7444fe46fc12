"""The rows as a person reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tulle.verify.judge import Row
from tulle.verify.statements import STATEMENTS

MOST_EXAMPLES = 2
WIDEST_MATRIX = 16
"""More Pods than this do not fit a terminal side by side."""


def show(rows: Sequence[Row], console: Console) -> None:
    """A line per sentence; where one fails, who reaches whom; at the end, what is broken."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.id].append(row)
    console.print(_sentences(grouped))
    for statement, text in STATEMENTS.items():
        of_statement = grouped[statement]
        if not all(row.ok for row in of_statement) and any(row.source != row.target for row in of_statement):
            console.print(_matrix(text, of_statement))
    failed = [row for row in rows if not row.ok]
    verdict = _broken(failed) if failed else Text(f"All {len(rows)} checks hold.", style="bold green")
    console.print(verdict, soft_wrap=True)


def _sentences(grouped: dict[str, list[Row]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("statement")
    for family in ("IPv4", "IPv6"):
        table.add_column(family, justify="right")
    for statement in STATEMENTS:
        rows = grouped[statement]
        if rows:
            counts = [
                _count([row for row in rows if row.family in (family, "")]) for family in ("IPv4", "IPv6")
            ]
            table.add_row(_mark(rows), STATEMENTS[statement], *counts)
    return table


def _mark(rows: Iterable[Row]) -> Text:
    return Text("✓", style="green") if all(row.ok for row in rows) else Text("✗", style="bold red")


def _count(rows: Sequence[Row]) -> Text:
    """``12`` when all hold, ``3/12`` when only three do, ``-`` when there was nothing to check."""
    good = sum(row.ok for row in rows)
    if good < len(rows):
        return Text(f"{good}/{len(rows)}", style="red")
    return Text(str(len(rows)) if rows else "-")


def _matrix(title: str, rows: Sequence[Row]) -> RenderableType:
    """From × to; a cell says what fails between the two."""
    cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        cells[row.source, row.target].append(row)
    targets = sorted({row.target for row in rows})
    heading = Text(f"\n✗ {title}", style="bold red")
    if len(targets) > WIDEST_MATRIX:
        return heading
    table = Table(header_style="bold", show_lines=False)
    table.add_column("from ╲ to", no_wrap=True)
    for target in targets:
        table.add_column(target)
    for source in sorted({row.source for row in rows}):
        table.add_row(source, *(_cell(cells.get((source, target), [])) for target in targets))
    return Group(heading, table)


def _cell(rows: Sequence[Row]) -> Text:
    failed = [row for row in rows if not row.ok]
    if not failed:
        return Text("✓" if rows else "", style="green")
    if len(failed) == len(rows):
        return Text("✗ all", style="red")
    flavours = sorted({f"{row.family} {row.protocol}".strip() for row in failed})
    return Text("✗ " + "\n  ".join(flavours), style="red")


def _broken(failed: Sequence[Row]) -> Group:
    """A paragraph per broken place, the one with most failures first; Pods in the same trouble share one."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in failed:
        alone = row.source == row.target
        groups[f"{row.statement}, but: {row.seen}" if alone else row.hop].append(row)
    parts: list[RenderableType] = [Text("\nBroken:", style="bold red")]
    for heading, rows in sorted(groups.items(), key=lambda item: -len(item[1])):
        parts.append(Text(f"  {heading}: {len(rows)} failed", style="bold"))
        parts += [Text(f"    {_example(row)}") for row in rows[:MOST_EXAMPLES]]
    return Group(*parts)


def _example(row: Row) -> str:
    way = row.source if row.source == row.target else f"{row.source} → {row.target}"
    flavour = " ".join(filter(None, [way, row.family, row.protocol]))
    return f"{flavour}: expected {row.expected}, seen {row.seen}"
