"""The nameservers of ``/etc/resolv.conf`` (resolv.conf(5)). No I/O."""

from __future__ import annotations

from collections.abc import Set

from tulle.dns.configuration.config import Endpoint, Problem, parse_endpoint


def parse(
    text: str, own: Set[Endpoint] = frozenset(), source: str = "/etc/resolv.conf"
) -> tuple[tuple[Endpoint, ...], tuple[Problem, ...]]:
    """The nameservers in their order, each once; and what was left out, with the reason.

    ``own`` are the addresses this server listens on: to ask them would be to ask oneself for ever.
    """
    found: dict[Endpoint, None] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            endpoint = _without_port(words[1])
        except ValueError as error:
            problems.append(Problem(source, number, str(error)))
            continue
        if endpoint in own:
            problems.append(Problem(source, number, f"{words[1]} is this server itself; it is left out"))
        else:
            found[endpoint] = None
    return tuple(found), tuple(problems)


def _without_port(text: str) -> Endpoint:
    endpoint = parse_endpoint(text)
    if text.startswith("[") or (text.count(":") == 1):
        raise ValueError(f"nameserver {text!r} cannot be right; resolv.conf has addresses without ports")
    return endpoint
