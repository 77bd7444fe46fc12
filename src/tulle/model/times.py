"""Times as the Kubernetes API writes them."""

from __future__ import annotations

from datetime import datetime


def parse_time(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None if it is none."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found.timestamp() if found.tzinfo else None
