"""What was measured, for eyes and for machines: a table, a JSON file, a picture."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import msgspec
from rich import box
from rich.table import Table

from bench.statistics import Figure

_ROW, _TOP, _LEFT, _WIDTH, _RIGHT = 22, 46, 400, 420, 260  # pixels
_COLOURS = {True: "#2a7d4f", False: "#b3372f"}


class Machine(msgspec.Struct, frozen=True):
    """Where the figures come from. ``load`` is the average over the last minute, before and after."""

    kernel: str
    processor: str
    cores: int
    python: str
    load: tuple[float, float]


class Report(msgspec.Struct, frozen=True):
    """One run; ``date`` in UTC."""

    date: str
    rounds: int
    machine: Machine
    figures: tuple[Figure, ...]


def here(load_before: float) -> Machine:
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    processor = models[0].partition(":")[2].strip() if models else platform.machine()
    loads = (round(load_before, 2), round(os.getloadavg()[0], 2))
    return Machine(platform.release(), processor, os.cpu_count() or 1, platform.python_version(), loads)


def save(report: Report, folder: Path) -> Path:
    """Writes ``<date>.json`` and ``<date>.svg``; the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.date}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    path.with_suffix(".svg").write_text(picture(report))
    return path


def now() -> str:
    return time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())


def table(figures: Sequence[Figure]) -> Table:
    """Median and spread over the rounds, beside what was promised; ready to be pasted into Markdown."""
    result = Table("group", "figure", box=box.MARKDOWN)
    for name in ("median", "spread", "unit", "target"):
        result.add_column(name, justify="right", no_wrap=True)
    for f in figures:
        colour = {True: "green", False: "red", None: "default"}[f.met]
        spread = f"{_number(f.low)} – {_number(f.high)}"
        result.add_row(f.group, f.name, f"[{colour}]{_number(f.median)}[/]", spread, f.unit, _target(f))
    return result


def _number(value: float) -> str:
    """Three significant digits; large numbers with thousands set off."""
    if abs(value) >= 1000:
        digits = int(math.log10(abs(value))) - 2
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return f"{'≥' if figure.better == 'higher' else '≤'} {_number(figure.target)}"


def picture(report: Report) -> str:
    """An SVG: for each figure with a target a dot at its median and a line over its spread.

    The axis is logarithmic and shows multiples of the target: right of 1 is better than promised.
    """
    shown = [f for f in report.figures if f.target]
    ends = [f.of_target(v) for f in shown for v in f.values]
    reach = max(1.0, *(abs(math.log2(end)) for end in ends)) if ends else 1.0
    height = _TOP + _ROW * (len(shown) + 1)
    body = [*_axis(reach, height), *(part for i, f in enumerate(shown) for part in _row(f, i, reach))]
    title = (
        f"Tulle, {report.date}, kernel {report.machine.kernel}: median and spread of {report.rounds} rounds"
    )
    width = _LEFT + _WIDTH + _RIGHT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
            ' font-size="12">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="10" y="18" font-size="14">{escape(title)}</text>',
            *body,
            "</svg>\n",
        ]
    )


def _x(multiple: float, reach: float) -> float:
    return _LEFT + _WIDTH / 2 * (1 + math.log2(multiple) / reach)


def _axis(reach: float, height: int) -> Iterator[str]:
    for power in range(-math.floor(reach), math.floor(reach) + 1):
        x = _x(2.0**power, reach)
        colour = "#333" if power == 0 else "#ddd"
        label = "target" if power == 0 else f"{2.0**power:g} ×"
        yield f'<line x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{height - 8}" stroke="{colour}"/>'
        yield f'<text x="{x:.1f}" y="{_TOP - 12}" text-anchor="middle" fill="#555">{label}</text>'


def _row(figure: Figure, index: int, reach: float) -> Iterator[str]:
    y = _TOP + _ROW * index + _ROW / 2
    low, high, middle = (_x(figure.of_target(v), reach) for v in (figure.low, figure.high, figure.median))
    colour = _COLOURS[bool(figure.met)]
    words = f"{_number(figure.median)} {figure.unit}  ({_target(figure)})"
    yield f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(figure.name)}</text>'
    yield f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
    yield f'<circle cx="{middle:.1f}" cy="{y}" r="4" fill="{colour}"/>'
    yield f'<text x="{_LEFT + _WIDTH + 10}" y="{y + 4}" fill="{colour}">{escape(words)}</text>'
