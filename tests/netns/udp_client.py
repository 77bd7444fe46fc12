"""A client with one connected UDP socket, as a process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from nodes import Place

from tulle.lab import cgroup

ENDS = str(Path(__file__).parents[1] / "ends.py")


class Asking:
    """It is connected once, and uses its socket again whenever it is told to."""

    def __init__(self, place: Place, address: str, port: int) -> None:
        line = ["nsenter", f"--net={place.path}", *cgroup.JOIN, str(place.group)]
        self._process = subprocess.Popen(
            [*line, sys.executable, ENDS, "keep", address, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout and self._process.stdout.readline() == "ready\n"

    def ask(self) -> str:
        """Who answered, or the name of the error."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def ask_until(self, *wanted: str, patience: float = 30.0) -> str:
        """Asks again and again for one of these answers; the last one, after ``patience`` seconds any."""
        deadline = time.monotonic() + patience
        while (answer := self.ask()) not in wanted and time.monotonic() < deadline:
            pass
        return answer

    def close(self) -> None:
        with self._process as process:
            process.kill()
