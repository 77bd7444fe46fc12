"""How Tulle's own processes log: one line for each event, to standard error."""

from __future__ import annotations

import logging


def to_stderr(level: str = "info") -> None:
    """For the start of a process. ``level``: debug, info, warning or error."""
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), format=form)
