"""S-63: when a node is healthy, and what it says of that."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tulle.agent.health.freshness import PATIENCE, TAINT, Freshness, is_eligible, reply
from tulle.model.objects import Node

WALL = 1767225600.0  # 2026-01-01T00:00:00Z


def synced() -> Freshness:
    found = Freshness()
    found.queued(0)
    found.begun()
    found.synced(WALL)
    return found


def test_while_it_starts_a_node_is_healthy() -> None:
    freshness = Freshness()
    freshness.queued(0)
    assert freshness.healthy(2 * PATIENCE)


def test_the_oldest_change_counts() -> None:
    freshness = synced()
    assert freshness.healthy(10 * PATIENCE), "nothing waits"
    freshness.queued(100)
    freshness.queued(100 + PATIENCE - 1)
    assert freshness.healthy(100 + PATIENCE - 1)
    assert not freshness.healthy(100 + PATIENCE)
    freshness.begun()
    assert not freshness.healthy(100 + PATIENCE), "a round that does not end"
    freshness.synced(WALL + 1)
    assert freshness.healthy(10 * PATIENCE)


def test_what_comes_during_a_round_waits_for_the_next() -> None:
    freshness = synced()
    freshness.queued(100)
    freshness.begun()
    freshness.queued(150)
    freshness.synced(WALL)
    assert freshness.healthy(150 + PATIENCE - 1)
    assert not freshness.healthy(150 + PATIENCE)
    freshness.begun()
    freshness.begun()
    assert not freshness.healthy(150 + PATIENCE), "a round that begins again"


def test_what_is_said() -> None:
    freshness = synced()
    each = {"lastUpdated": "2026-01-01T00:00:00Z", "healthy": True}
    told = reply(freshness, 5, WALL + 9.5)
    assert (told.status, told.type) == (200, "application/json")
    assert dict(told.headers) == {"X-Content-Type-Options": "nosniff"}
    assert json.loads(told.body) == {
        "lastUpdated": "2026-01-01T00:00:09.500000Z",
        "currentTime": "2026-01-01T00:00:09.500000Z",
        "healthy": True,
        "status": {"IPv4": each, "IPv6": each},
    }
    told = reply(freshness, 5, WALL + 9, eligible=False)
    assert told.status == 503
    body = json.loads(told.body)
    assert (body["nodeEligible"], body["healthy"], body["lastUpdated"]) == (False, True, each["lastUpdated"])
    freshness.queued(0)
    told = reply(freshness, PATIENCE, WALL + 9, eligible=True)
    assert told.status == 503
    body = json.loads(told.body)
    assert (body["nodeEligible"], body["healthy"], body["status"]["IPv6"]["healthy"]) == (True, False, False)


def test_before_the_first_round() -> None:
    body = json.loads(reply(Freshness(), 0, WALL, eligible=False).body)
    assert (body["lastUpdated"], "status" in body) == ("0001-01-01T00:00:00Z", False)


@pytest.mark.parametrize(
    ("fields", "eligible"),
    [
        ({}, True),
        ({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}}, True),
        ({"spec": {"taints": [{"key": "a"}, {"key": TAINT, "value": "1", "effect": "NoSchedule"}]}}, False),
        ({"metadata": {"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}}, False),
    ],
)
def test_a_node_that_is_about_to_go(fields: dict[str, Any], eligible: bool) -> None:
    assert is_eligible(msgspec.convert({"metadata": {"name": "n"}} | fields, Node)) is eligible


def test_a_node_that_is_gone() -> None:
    assert not is_eligible(None)
