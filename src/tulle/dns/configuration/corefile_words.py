"""Words of a Corefile as values: zones, durations, numbers, upstreams. Each error names the line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Final

from tulle.dns.configuration.config import DNS_PORT
from tulle.dns.configuration.corefile_syntax import Line
from tulle.dns.names import ROOT, to_wire
from tulle.model.address import Network

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_ASKED_OTHERWISE: Final = ("tls://", "https://", "grpc://", "quic://", "https3://")


def arguments(line: Line, least: int, most: int | None, usage: str) -> tuple[str, ...]:
    """The words after the first. Raises ``BadSource`` with the usage if their number cannot be right."""
    given = line.words[1:]
    if len(given) < least or (most is not None and len(given) > most):
        raise line.bad(f"{line.words[0]} has {len(given)} arguments; write '{usage}'")
    return given


def duration(line: Line, text: str) -> float:
    """``5s``, ``1m30s``, ``500ms`` in seconds, as Go reads it. Raises ``BadSource``."""
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        raise line.bad(f"{line.words[0]}: {text!r} is no duration; write it like 30s, 5m or 1h")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def number(line: Line, text: str, least: int, most: int) -> int:
    """Raises ``BadSource`` when it is no whole number from ``least`` to ``most``."""
    if not (text.isascii() and text.isdigit() and len(text) < 11) or not least <= int(text) <= most:
        raise line.bad(f"{line.words[0]}: {text!r} cannot be right; give a number from {least} to {most}")
    return int(text)


def zones(line: Line, texts: Iterable[str]) -> tuple[bytes, ...]:
    """Domain names, and networks (``10.0.0.0/16``) as their reverse zones."""
    return tuple(zone for text in texts for zone in _zone(line, text))


def _zone(line: Line, text: str) -> list[bytes]:
    try:
        if "/" in text:
            return _reverse_zones(ip_network(text, strict=False))
        return [to_wire(text)]
    except ValueError as error:
        raise line.bad(f"{text!r} is no zone: {error}") from None


def _reverse_zones(network: Network) -> list[bytes]:
    """A network between two steps (/8 in IPv4, /4 in IPv6) is all the zones of the next step."""
    step = 8 if network.version == 4 else 4
    parts = -(-network.prefixlen // step)
    found = []
    for piece in network.subnets(new_prefix=parts * step):
        labels = piece.network_address.reverse_pointer.split(".")
        found.append(to_wire(".".join(labels[len(labels) - 2 - parts :])))
    return found


def served(line: Line) -> tuple[tuple[bytes, int], ...]:
    """The zones and ports of a server block: ``.:53``, ``cluster.local 10.0.0.0/8:5353``, ``dns://.``.

    Empty for a block that is served by other means than plain DNS. Raises ``BadSource``.
    """
    words = [word for part in line.words for word in part.split(",") if word]
    if not words:
        raise line.bad("a server block begins with its zones, such as '.:53 {'")
    if words[0].startswith("("):
        raise line.bad("snippets are not supported; write what they contain where it is imported")
    plain = [word for word in words if not word.startswith(_ASKED_OTHERWISE)]
    return tuple(pair for word in plain for pair in _served(line, word.removeprefix("dns://")))


def _served(line: Line, word: str) -> Iterable[tuple[bytes, int]]:
    zone, port = word, DNS_PORT
    head, colon, tail = word.rpartition(":")
    if colon and tail.isdigit():
        zone, port = head or ".", number(Line(line.number, ("port",)), tail, 1, 65535)
    return [(wire, port) for wire in zones(line, [zone])]


def encrypted(text: str) -> bool:
    """Whether an upstream is one to be asked by TLS or the like, which is not supported."""
    return text.startswith(_ASKED_OTHERWISE)


def own_zones(line: Line, texts: Sequence[str], served_zones: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Zones of a plugin: those it names, or those of its server block."""
    return zones(line, texts) or served_zones or (ROOT,)
