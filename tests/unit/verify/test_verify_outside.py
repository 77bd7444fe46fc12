"""The client outside: any command that runs the probe."""

from __future__ import annotations

import sys

import pytest
from probe_server import serving

from tulle.errors import ConfigError
from tulle.verify import outside
from tulle.verify.cluster import Question
from tulle.verify.judge import Interface, Report
from tulle.verify.plan import OUTSIDE
from tulle.verify.run import Options, clients_of

PROBE = [sys.executable, "-m", "tulle.verify.probe"]


async def test_the_probe_runs_there() -> None:
    async with serving() as port:
        question = Question(7, "reach", "127.0.0.1", port, transport="tcp", tries=2)
        report = await outside.ask(PROBE, [question], 3.0)
    [answer] = report.results
    assert (report.failure, answer.id, answer.met) == ("", 7, {"me": ("127.0.0.1",)})


@pytest.mark.parametrize(
    ("command", "failure"),
    [
        (["/no/such/command"], "/no/such/command cannot be run: No such file or directory"),
        (["false"], "the probe ended with exit code 1: no output"),
        (["echo", "hello"], "the probe ended with exit code 0: hello check"),
    ],
)
async def test_a_command_that_does_not(command: list[str], failure: str) -> None:
    assert (await outside.ask(command, (), 1.0)).failure == failure
    with pytest.raises(ConfigError, match="does not run the probe"):
        await clients_of(Options(outside=command), "", [])
    notes: list[str] = []
    assert (await clients_of(Options(worlds=lambda lab: command), "mine", notes)).places == ()
    assert notes == [f"the lab's world cannot be asked: {failure}"]


async def test_nobody_outside() -> None:
    """Without a lab, and without a command."""
    assert (await clients_of(Options(worlds=lambda lab: PROBE), "", [])).places == ()
    assert (await clients_of(Options(), "mine", [])).places == ()


def test_it_has_the_addresses_of_all_its_interfaces() -> None:
    links = (Interface("a", "", ("192.0.2.1", "2001:db8::1")), Interface("b", "", ("192.0.2.9",)))
    place = outside.place(Report(interfaces=links))
    assert (str(place), place.outside, place.node) == (OUTSIDE, True, OUTSIDE)
    assert (place.address("IPv4"), place.address("IPv6")) == ("192.0.2.1", "2001:db8::1")
