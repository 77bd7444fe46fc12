"""Whether the Service table keeps up with the API, and what is said of that (S-63). Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tulle.model.objects import Node
from tulle.telemetry.http import JSON, Reply

PATIENCE = 60.0
"""Seconds for which a change may wait: kube-proxy's twice thirty."""
TAINT = "ToBeDeletedByClusterAutoscaler"
_NEVER = "0001-01-01T00:00:00Z"


class Freshness:
    """Times are in seconds, ``now`` of a clock that never jumps, ``wall`` since the epoch.

    While it starts up, before anything was written, a node is healthy: its kernel goes on as before.
    """

    def __init__(self) -> None:
        self._waiting: float | None = None
        self._at_work: float | None = None
        self.updated: float | None = None
        """When the table last agreed with the API, ``wall``."""

    def queued(self, now: float) -> None:
        """Something changed in the API; what changed before it may still wait."""
        if self._waiting is None:
            self._waiting = now

    def begun(self) -> None:
        """Whatever was queued is being written; what comes from now on waits for the next round."""
        if self._at_work is None:
            self._at_work, self._waiting = self._waiting, None

    def synced(self, wall: float) -> None:
        """It is written."""
        self._at_work, self.updated = None, wall

    def healthy(self, now: float) -> bool:
        oldest = self._waiting if self._at_work is None else self._at_work
        return self.updated is None or oldest is None or now - oldest < PATIENCE


def is_eligible(node: Node | None) -> bool:
    """Whether a load balancer should send something new to a node: not when it is gone, or about to go."""
    if node is None or node.metadata.deletion_timestamp:
        return False
    return all(taint.key != TAINT for taint in node.spec.taints)


def reply(freshness: Freshness, now: float, wall: float, eligible: bool | None = None) -> Reply:
    """What ``/livez`` answers, and, with ``eligible``, ``/healthz``.

    Of a healthy node, ``lastUpdated`` is now, as for kube-proxy. One table has both families.
    """
    healthy = freshness.healthy(now)
    well = healthy and eligible is not False
    each = {"lastUpdated": _time(freshness.updated), "healthy": healthy}
    body = {
        "lastUpdated": _time(wall if well else freshness.updated),
        "currentTime": _time(wall),
        **({} if eligible is None else {"nodeEligible": eligible}),
        "healthy": healthy,
        **({} if freshness.updated is None else {"status": {"IPv4": each, "IPv6": each}}),
    }
    return Reply(200 if well else 503, json.dumps(body), JSON, (("X-Content-Type-Options", "nosniff"),))


def _time(wall: float | None) -> str:
    return _NEVER if wall is None else datetime.fromtimestamp(wall, UTC).isoformat().replace("+00:00", "Z")
