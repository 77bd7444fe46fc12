"""How many examples a property test looks at, as a share of what the profile of Hypothesis says."""

from __future__ import annotations

from typing import Any

from hypothesis import settings


def effort(share: float, **more: Any) -> settings:
    """Below 1 for a test whose examples take long, above 1 for one that must not miss anything."""
    return settings(max_examples=max(1, round(share * settings().max_examples)), **more)
