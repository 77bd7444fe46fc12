"""``status`` of a BGPPeer, which all its nodes write together. Pure.

Each node writes its own entry of ``status.sessions``, and in the same request the condition Established over
all entries as it knows them. The request carries the resourceVersion of what the node knows: if another one
was faster, the API refuses (409), and the node does it again with the newer object. So no entry is lost, and
the condition is true of the entries beside it. A node that is cut off cannot take back what it said last: the
others make that Unknown. The entry of a Node that is deleted is taken out by whoever writes next.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tulle.model.bgp import ESTABLISHED, INVALID, UNKNOWN, BGPPeer, PeerCondition, Session

CONDITION = "Established"
UP = "SessionEstablished"
"""The reason of an Event that needs nobody's attention."""
_NAMED = 3  # nodes in a message


def patch(
    peer: BGPPeer,
    node: str,
    session: Session | None,
    nodes: Collection[str],
    now: str,
    silent: Collection[str] = (),
) -> dict[str, Any] | None:
    """A JSON merge patch for the subresource, or None when all is as it should be.

    ``session``: what this node has to say, None when the object is not for it. ``nodes``: all that exist.
    ``silent``: those of them whose word does not count any more.
    """
    before = peer.status.sessions or {}
    unheard = {
        name: Session(UNKNOWN, now, f"the node is not heard of; it last said: {each.state}")
        for name, each in before.items()
        if name in silent and name != node and each.state != UNKNOWN
    }
    if session is None and node not in before and not unheard:
        return None
    after = {name: each for name, each in before.items() if name in nodes and name != node} | unheard
    if session is not None:
        after[node] = session
    old = next((c for c in peer.status.conditions or () if c.type == CONDITION), None)
    new = condition(after, old, now)
    if after == before and new == old:
        return None
    sessions: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    sessions |= {name: _entry(each) for name, each in after.items() if before.get(name) != each}
    return {
        "metadata": {"resourceVersion": peer.metadata.resource_version},
        "status": {"sessions": sessions, "conditions": [_condition(new)]},
    }


def condition(sessions: Mapping[str, Session], old: PeerCondition | None, now: str) -> PeerCondition:
    """True when each node that should have a session has one."""
    status, reason, message = _verdict(sessions)
    same = old is not None and old.status == status
    since = old.last_transition_time if old and same else now
    return PeerCondition(CONDITION, status, reason, message, since)


def _verdict(sessions: Mapping[str, Session]) -> tuple[str, str, str]:
    if not sessions:
        return "Unknown", "NoNode", "no node has this peer: nodeSelector matches none, or no agent runs"
    missing = {name: each for name, each in sorted(sessions.items()) if each.state != ESTABLISHED}
    if not missing:
        return "True", "Established", f"{len(sessions)} of {len(sessions)} nodes"
    invalid = any(each.state == INVALID for each in missing.values())
    words = [f"{name}: {each.message or each.state}" for name, each in list(missing.items())[:_NAMED]]
    words += ["…"] if len(missing) > _NAMED else []
    count = f"{len(sessions) - len(missing)} of {len(sessions)} nodes"
    if all(each.state == UNKNOWN for each in missing.values()):
        return "Unknown", "NodeSilent", f"{count}; {'; '.join(words)}"
    return "False", "Invalid" if invalid else "SessionDown", f"{count}; {'; '.join(words)}"


def news(before: Session | None, after: Session | None) -> tuple[str, str] | None:
    """Reason and message of the Event that the change is worth; None when it is worth none."""
    if after is None or (before and (before.state, before.message) == (after.state, after.message)):
        return None
    if after.state == INVALID:
        return "InvalidField", after.message
    if after.state == ESTABLISHED:
        return UP, "the session is up"
    return "SessionDown", after.message


def _entry(session: Session) -> dict[str, str]:
    return {"state": session.state, "since": session.since, "message": session.message}


def _condition(found: PeerCondition) -> dict[str, str]:
    return {
        "type": found.type,
        "status": found.status,
        "reason": found.reason,
        "message": found.message,
        "lastTransitionTime": found.last_transition_time,
    }
