"""A strict reader of Prometheus' text format 0.0.4, which knows nothing of the writer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)")
_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}

Labels = frozenset[tuple[str, str]]


@dataclass
class Family:
    kind: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)


def read(text: str) -> dict[str, Family]:
    """The families by name; AssertionError for whatever Prometheus would refuse."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    helped, now = "", ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
            assert len(line.split(" ", 3)) == 4 and re.fullmatch(_NAME, helped), line
        elif line.startswith("# TYPE "):
            now, kind = line.split(" ")[2:]
            assert now == helped and now not in families and kind in _SUFFIXES, line
            families[now] = Family(kind)
        else:
            _read_sample(line, now, families[now])
    for name, family in families.items():
        if family.kind == "histogram":
            _check_histogram(name, family)
        assert not name.endswith("_total") or family.kind == "counter" or "no_local" in name, name
    return families


def value(text: str, name: str, **labels: str) -> float:
    """Of one sample; 0 if there is none."""
    for family in read(text).values():
        if (name, frozenset(labels.items())) in family.samples:
            return family.samples[name, frozenset(labels.items())]
    return 0.0


def _read_sample(line: str, now: str, family: Family) -> None:
    found = _SAMPLE.fullmatch(line)
    assert found, line
    name, inside, number = found[1], found[2] or "", found[3]
    assert name in {now + suffix for suffix in _SUFFIXES[family.kind]}, line
    labels: dict[str, str] = {}
    while inside:
        label = _LABEL.match(inside)
        assert label and label[1] not in labels, line
        labels[label[1]] = label[2]
        inside = inside[label.end() :]
    key = (name, frozenset(labels.items()))
    assert key not in family.samples, f"twice: {line}"
    family.samples[key] = float(number)


def _check_histogram(name: str, family: Family) -> None:
    """Buckets are cumulative, and the last one, +Inf, has all."""
    buckets: dict[Labels, list[tuple[float, float]]] = {}
    for (sample, labels), count in family.samples.items():
        if sample == f"{name}_bucket":
            bound = float(dict(labels)["le"])
            rest = frozenset(pair for pair in labels if pair[0] != "le")
            buckets.setdefault(rest, []).append((bound, count))
    for labels, found in buckets.items():
        counts = [count for _, count in sorted(found)]
        assert counts == sorted(counts) and max(found)[0] == float("inf"), name
        assert family.samples[f"{name}_count", labels] == counts[-1], name
        assert (f"{name}_sum", labels) in family.samples, name
