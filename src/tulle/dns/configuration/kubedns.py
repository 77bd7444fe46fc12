"""The ConfigMap ``kube-system/kube-dns``: ``stubDomains`` and ``upstreamNameservers`` (D-23, D-26). No I/O.

https://kubernetes.io/docs/tasks/administer-cluster/dns-custom-nameservers (its form for kube-dns)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from tulle.dns.configuration.config import BadSource, Endpoint, Problem, parse_endpoint
from tulle.dns.names import to_wire

SOURCE: Final = "ConfigMap kube-system/kube-dns"
MOST_UPSTREAMS: Final = 3
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class KubeDns:
    """``stubs`` has domains as text, lower case, without the trailing dot."""

    stubs: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    upstreams: tuple[Endpoint, ...] = ()


def parse(data: Mapping[str, str]) -> KubeDns:
    """Other keys (``federations``) are not looked at. Raises ``BadSource`` naming key, line and value."""
    stubs = _json(data, "stubDomains", dict[str, list[str]], 'an object like {"corp.example": ["10.0.0.1"]}')
    upstreams = _json(data, "upstreamNameservers", list[str], 'a list like ["8.8.8.8"]')
    if upstreams and len(upstreams) > MOST_UPSTREAMS:
        raise _bad(
            "upstreamNameservers", 1, f"{len(upstreams)} are given, at most {MOST_UPSTREAMS} are taken"
        )
    return KubeDns(
        {_domain(domain): _endpoints("stubDomains", to, domain) for domain, to in (stubs or {}).items()},
        _endpoints("upstreamNameservers", upstreams) if upstreams else (),
    )


def _json(data: Mapping[str, str], key: str, shape: type[_T], advice: str) -> _T | None:
    text = data.get(key, "")
    if not text.strip():
        return None
    try:
        return msgspec.json.decode(text, type=shape)
    except msgspec.ValidationError as error:
        raise _bad(key, 1, f"{error}; give {advice}") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise _bad(key, _line(text, str(error)), f"no valid JSON: {error}; give {advice}") from None


def _line(text: str, message: str) -> int:
    """msgspec says the byte; people look for the line."""
    digits = message.rpartition("byte ")[2].rstrip(")")
    at = int(digits) if digits.isdigit() else len(text)
    return text.encode(errors="replace")[:at].count(b"\n") + 1


def _domain(text: str) -> str:
    try:
        to_wire(text)
    except ValueError as error:
        raise _bad("stubDomains", 1, str(error)) from None
    return text.lower().removesuffix(".") or "."


def _endpoints(key: str, texts: list[str], domain: str = "") -> tuple[Endpoint, ...]:
    where = f"{domain}: " if domain else ""
    if not texts:
        raise _bad(key, 1, f"{where}the list is empty; give at least one address")
    try:
        return tuple(dict.fromkeys(parse_endpoint(text) for text in texts))
    except ValueError as error:
        raise _bad(key, 1, f"{where}{error}") from None


def _bad(key: str, line: int, reason: str) -> BadSource:
    return BadSource(Problem(f"{SOURCE}, {key}", line, reason, fatal=True))
