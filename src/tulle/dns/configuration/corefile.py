"""The common subset of a Corefile as :class:`~tulle.dns.configuration.config.Config` (D-20, D-26). No I/O.

What is not supported is left out and reported; what cannot be right makes the whole Corefile unusable
(``BadSource``), so that the caller goes on with the last good one.
"""

from __future__ import annotations

from typing import Final

from tulle.dns.configuration.config import BadSource, Config, Endpoint, Problem, Scope
from tulle.dns.configuration.corefile_draft import Draft
from tulle.dns.configuration.corefile_plugins import PLUGINS
from tulle.dns.configuration.corefile_syntax import SOURCE, Line, parse
from tulle.dns.configuration.corefile_words import served

_DONE_BY_FLAGS: Final = frozenset({"errors", "health", "ready", "prometheus", "reload", "loop", "bind"})
"""They are right and need nothing here: the server does all of it, or has flags for it."""


def read(text: str, system: tuple[Endpoint, ...] = ()) -> Config:
    """``system`` are the upstreams that ``/etc/resolv.conf`` stands for. Raises ``BadSource``."""
    scopes: dict[bytes, Scope] = {}
    seen: dict[tuple[bytes, int], int] = {}
    problems: list[Problem] = []
    for block in parse(text):
        zones = served(block)
        if not zones:
            problems.append(block.problem(f"{' '.join(block.words)}: only plain DNS is served; left out"))
            continue
        draft = _draft(block, tuple(zone for zone, _ in zones), system)
        problems += draft.problems
        for zone, port in zones:
            if (zone, port) in seen:
                raise block.bad(f"this zone and port are served already, since line {seen[zone, port]}")
            seen[zone, port] = block.number
            if zone in scopes:
                problems.append(block.problem(f"port {port}: a zone is served once, by its first block"))
            else:
                scopes[zone] = draft.scope(zone)
    if not scopes:
        raise BadSource(Problem(SOURCE, 0, "no server block is left that could be served", fatal=True))
    return Config(tuple(scopes.values()), tuple(problems))


def _draft(block: Line, zones: tuple[bytes, ...], system: tuple[Endpoint, ...]) -> Draft:
    draft = Draft(zones, system)
    seen: set[str] = set()
    for line in block.block:
        name = line.words[0] if line.words else "{"
        if name in seen and name not in ("forward", "rewrite", "log", "template"):
            raise line.bad(f"{name} stands twice in one server block")
        seen.add(name)
        if name in PLUGINS:
            PLUGINS[name](draft, line)
        elif name not in _DONE_BY_FLAGS:
            draft.problems.append(line.problem(f"plugin {name!r} is not supported; left out"))
    return draft
