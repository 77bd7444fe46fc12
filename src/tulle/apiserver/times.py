"""Times as Kubernetes writes them, and durations as kubectl shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any


def stamp(offset: float = 0) -> str:
    """The time ``offset`` seconds from now, as objects carry it."""
    return (datetime.now(UTC) + timedelta(seconds=offset)).strftime("%Y-%m-%dT%H:%M:%SZ")


def age_of(obj: dict[str, Any], now: datetime, field: str = "creationTimestamp") -> str:
    """How long ago ``field`` of ``obj``, or of its metadata, was; ``<unknown>`` where it is not set."""
    at = obj.get(field) or obj.get("metadata", {}).get(field)
    return humanised(now - datetime.fromisoformat(at)) if at else "<unknown>"


def humanised(duration: timedelta) -> str:
    """kubectl's short form: two units while the smaller one still says something, then one.

    Up to two seconds of the future pass for now, because clocks differ.
    """
    seconds = int(duration.total_seconds())
    if seconds < -1:
        return "<invalid>"
    minutes, hours, days, years = seconds // 60, seconds // 3600, seconds // 86400, seconds // (365 * 86400)
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if years < 2:
        return f"{days}d"
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
