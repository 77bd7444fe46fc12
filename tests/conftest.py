"""How property tests search for a counterexample: the same way each time, or ever anew.

A contributor looks further with ``pytest tests/unit --hypothesis-profile=search --timeout=0``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests.ports import closed

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A machine that is busy with something else is no failure."""

settings.register_profile("repeatable", UNHURRIED, derandomize=True)
settings.register_profile("search", UNHURRIED, derandomize=False, max_examples=5000, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 where nobody listens, nor will, over TCP and UDP."""
    with closed() as port:
        yield port
