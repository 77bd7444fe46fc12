"""The plugins ``hosts`` and ``rewrite`` of a Corefile: names answered otherwise than they are asked."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from tulle.dns.configuration.config import Hosts, Rewrite
from tulle.dns.configuration.corefile_draft import Draft
from tulle.dns.configuration.corefile_syntax import Line
from tulle.dns.configuration.corefile_words import arguments, number, own_zones
from tulle.dns.names import to_wire


def put_hosts(draft: Draft, line: Line) -> None:
    """Inline entries only: a file named before the zones is not read, and reported."""
    words = list(line.words[1:])
    if words and words[0].startswith("/"):
        draft.problems.append(
            line.problem(f"hosts: the file {words.pop(0)} is not read, only inline entries")
        )
    plan = Hosts(zones=own_zones(line, words, draft.zones))
    addresses: dict[bytes, list[bytes]] = {}
    for option in line.block:
        match option.words[0]:
            case "ttl":
                (text,) = arguments(option, 1, 1, "ttl SECONDS")
                plan = replace(plan, ttl=number(option, text, 1, 65535))
            case "no_reverse":
                plan = replace(plan, reverse=False)
            case "fallthrough":
                plan = replace(plan, through=own_zones(option, option.words[1:], plan.zones))
            case "reload":
                pass
            case _:
                _entry(option, addresses)
    draft.hosts = replace(plan, addresses={name: tuple(found) for name, found in addresses.items()})


def _entry(line: Line, addresses: dict[bytes, list[bytes]]) -> None:
    names = arguments(line, 1, None, "ADDRESS NAME...")
    try:
        packed = ip_address(line.words[0]).packed
        for name in names:
            addresses.setdefault(to_wire(name), []).append(packed)
    except ValueError as error:
        raise line.bad(f"hosts: {error}") from None


def put_rewrite(draft: Draft, line: Line) -> None:
    """``rewrite [continue|stop] name [exact|suffix] FROM TO [answer auto]``; others are reported."""
    words = list(line.words[1:])
    stop = True
    if words and words[0] in ("continue", "stop"):
        stop = words.pop(0) == "stop"
    if not words or words[0] != "name":
        draft.problems.append(line.problem(f"rewrite: {' '.join(words[:1])!r} is not supported; left out"))
        return
    words.pop(0)
    kind = words.pop(0) if len(words) > 2 else "exact"
    if words[2:] == ["answer", "auto"]:
        del words[2:]
    if kind not in ("exact", "suffix") or len(words) > 2:
        draft.problems.append(
            line.problem("rewrite: only 'name exact|suffix FROM TO' is supported; left out")
        )
        return
    if len(words) != 2:
        raise line.bad("rewrite: write 'rewrite name exact|suffix FROM TO'")
    draft.rewrites.append(_rule(line, kind == "suffix", words[0], words[1], stop))


def _rule(line: Line, suffix: bool, old: str, new: str, stop: bool) -> Rewrite:
    try:
        for text in (old, new):
            to_wire(text.removeprefix(".") or "." if suffix else text)
    except ValueError as error:
        raise line.bad(f"rewrite: {error}") from None
    old, new = old.lower().removesuffix("."), new.lower().removesuffix(".")
    return Rewrite("suffix" if suffix else "exact", old, new, stop)
