"""What BIRD says of its sessions, from the lines of ``show protocols all``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tulle.external_to_service.bgp.peers import Judged
from tulle.model.bgp import DOWN, ESTABLISHED, INVALID, Session

_EXPORTED = re.compile(r"Routes: .* (\d+) exported")
_FIELDS = {
    "BGP state": "state",
    "Last error": "error",
    "Neighbor address": "address",
    "Neighbor AS": "asn",
    "Local AS": "local_asn",
}


@dataclass(frozen=True, slots=True)
class Observed:
    """One session. ``since``: RFC 3339, of the last change of state. ``exported``: prefixes, all families."""

    name: str
    since: str
    state: str = ""
    error: str = ""
    address: str = ""
    asn: str = ""
    local_asn: str = ""
    exported: int = 0


def parse(lines: Iterable[str]) -> dict[str, Observed]:
    """By BIRD's name for the session. Other protocols and what is not understood is passed over."""
    found: dict[str, Observed] = {}
    current: Observed | None = None
    for line in lines:
        if line and not line[0].isspace():
            words = line.split()
            current = Observed(words[0], words[4]) if len(words) > 4 and words[1] == "BGP" else None
        elif current:
            current = _with(current, line.strip())
        if current:
            found[current.name] = current
    return found


def _with(session: Observed, line: str) -> Observed:
    name, _, value = line.partition(":")
    if field := _FIELDS.get(name):
        texts: dict[str, Any] = {field: value.strip()}
        return replace(session, **texts)
    if match := _EXPORTED.match(line):
        return replace(session, exported=session.exported + int(match[1]))
    return session


def judge_sessions(
    judged: Mapping[str, Judged],
    observed: Mapping[str, Observed],
    fault: str,
    before: Mapping[str, Session],
    now: str,
) -> dict[str, Session]:
    """For the status, by the BGPPeer's name. ``fault``: why there is no BIRD at all, if there is none."""
    found: dict[str, Session] = {}
    for name, (_, problems) in judged.items():
        said = observed.get(name)
        if problems:
            words = "; ".join(f"{each.field}: {each.message}" for each in problems)
            found[name] = _since(INVALID, words, before.get(name), now)
        elif said and said.state == ESTABLISHED and not fault:
            found[name] = Session(ESTABLISHED, said.since)
        else:
            found[name] = _since(DOWN, fault or explain(said), before.get(name), now)
    return found


def _since(state: str, message: str, before: Session | None, now: str) -> Session:
    """All the states in which BIRD tries again are one: else the status would never be the same."""
    same = before is not None and before.state == state and before.since
    return Session(state, before.since if before and same else now, message)


def explain(observed: Observed | None) -> str:
    """Why a session is down, in BIRD's words where it has any."""
    if observed is None:
        return "BIRD has not begun yet: it waits for the API, or for the password"
    if observed.error:
        return f"{observed.error}{_ADVICE.get(observed.error, '')}"
    if observed.state == "Idle":
        return "peerAddress is in no subnet of this node; ebgpMultihop says how far away it may be"
    return "the router does not answer: it is down, it refuses, or it has another password"


_ADVICE = {
    "Error: No listening socket": " (does something else listen at port 179 of sourceAddress?)",
    "BGP Error: Bad peer AS": " (the router has another number than peerASN)",
    "Received: Bad peer AS": " (the router expects another number than localASN)",
}
