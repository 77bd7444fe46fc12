"""The client outside the cluster: a command that runs the probe on some machine that is no node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tulle.verify.cluster import Question, asked, patience, reported
from tulle.verify.judge import Report
from tulle.verify.plan import OUTSIDE, Place


async def ask(command: Sequence[str], questions: Sequence[Question], timeout: float) -> Report:
    """``timeout`` is seconds per question. Where the command fails, the report says why."""
    line = [*command, "check"]
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*line, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        return Report(failure=f"{line[0]} cannot be run: {error.strerror}")
    try:
        async with asyncio.timeout(patience(len(questions), timeout)):
            stdout, stderr = await process.communicate(asked(questions, timeout))
    except TimeoutError:
        return Report(failure=f"{line[0]} did not end in time")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return reported(stdout, stderr, process.returncode or 0)


def place(report: Report) -> Place:
    """The machine as a client: without a Pod, a port or a role."""
    return Place(OUTSIDE, OUTSIDE, "", 0, tuple(a for link in report.interfaces for a in link.addresses))
