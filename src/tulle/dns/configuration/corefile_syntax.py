"""The syntax of a Corefile: lines of words, with blocks in braces. No I/O, and no meaning yet.

https://coredns.io/manual/configuration/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tulle.dns.configuration.config import BadSource, Problem

SOURCE: Final = "Corefile"
_DEEPEST: Final = 3  # server block, plugin, and the options of e.g. template; more is a mistake
_LONGEST: Final = 1 << 20  # bytes; a ConfigMap holds no more


@dataclass(frozen=True, slots=True)
class Line:
    """Words, without the brace that opens a block; ``block`` is what stands between the braces."""

    number: int
    words: tuple[str, ...]
    block: tuple[Line, ...] = ()

    def bad(self, reason: str) -> BadSource:
        """For ``raise``: the Corefile cannot be right because of this line."""
        return BadSource(Problem(SOURCE, self.number, reason, fatal=True))

    def problem(self, reason: str) -> Problem:
        """This line is not used, the others are."""
        return Problem(SOURCE, self.number, reason)


def parse(text: str) -> tuple[Line, ...]:
    """One line for each server block, its zones as words. Raises ``BadSource`` with line and reason."""
    if len(text) > _LONGEST:
        raise BadSource(Problem(SOURCE, 0, f"it is longer than {_LONGEST} bytes", fatal=True))
    lines = _words(text)
    blocks = tuple(_read(Line(0, ()), lines, depth=0))
    if not blocks:
        raise BadSource(Problem(SOURCE, 0, "it has no server block; write '.:53 { … }'", fatal=True))
    return blocks


def _words(text: str) -> Iterator[Line]:
    for number, raw in enumerate(text.splitlines(), 1):
        words = tuple(_split(raw, number))
        if words:
            yield Line(number, words)


def _split(raw: str, number: int) -> Iterator[str]:
    """Words end at blanks; ``#`` begins a comment only where a word begins; quotes keep blanks."""
    at = 0
    while at < len(raw):
        if raw[at].isspace():
            at += 1
        elif raw[at] == "#":
            return
        elif raw[at] == '"':
            end = raw.find('"', at + 1)
            if end < 0:
                raise Line(number, ()).bad("a quote is not closed on its line")
            yield raw[at + 1 : end]
            at = end + 1
        else:
            end = next((i for i in range(at, len(raw)) if raw[i].isspace()), len(raw))
            yield raw[at:end]
            at = end


def _read(opened: Line, lines: Iterator[Line], depth: int) -> Iterator[Line]:
    """The lines up to the brace that closes the block which ``opened`` opened; at depth 0 up to the end."""
    for line in lines:
        if line.words == ("}",):
            if not depth:
                raise line.bad("'}' closes nothing")
            return
        if line.words[-1] == "{":
            if depth >= _DEEPEST:
                raise line.bad(f"blocks are nested deeper than {_DEEPEST}")
            inner = tuple(_read(line, lines, depth + 1))
            yield Line(line.number, line.words[:-1], inner)
        elif depth == 0:
            raise line.bad("a server block is opened by zones and '{' at the end of the line")
        elif "{" in line.words or "}" in line.words:
            raise line.bad("'{' stands at the end of a line, '}' on a line of its own")
        else:
            yield line
    if depth:
        raise opened.bad("the block opened here is not closed; write '}' on a line of its own")
