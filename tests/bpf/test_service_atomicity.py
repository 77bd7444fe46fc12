"""A change of a Service is atomic: while it is changed all the time, nobody sees half of it."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Event

import pytest
from cluster import A_LINK, A_MAC, GATEWAY_MAC
from packets import TCP, UDP, ethernet, tcp
from programs import run_program
from service_scene import CLIENT_PORT, KEY, OTHER_VIPS, PORT, Ends, Scene, backends
from tests.plans import led_by

from tulle.kernel import libc, netns
from tulle.pod_to_service.plan import PortPlan

SECONDS = 1.0
FEWEST = 100  # of changes, and of packets to each: on a busy machine it takes longer
BLUE, GREEN, OTHER = range(1000, 1003), range(2000, 2005), range(3000, 3009)
OTHER_KEY = ("default", "other")
SYN_REST = tcp(0, 0, 0x02)[4:]


def at(scene: Scene, ports: range, affinity: int = 0, protocol: int = TCP) -> PortPlan:
    return scene.plan(protocol, backends(*((scene.family.b, port) for port in ports)), affinity=affinity)


def apply(scene: Scene, key: tuple[str, str], *plans: PortPlan) -> None:
    scene.table.apply({key: tuple(replace(plan, service=key) for plan in plans)})


def collect(scene: Scene) -> None:
    garbage = scene.table.take_garbage()
    libc.await_readers()
    scene.table.free(garbage)


class Sender:
    """Sends one first packet after another in a thread of its own, and counts whom they are led to."""

    def __init__(self, scene: Scene, protocol: int = TCP) -> None:
        self.led: Counter[str] = Counter()
        self._scene = scene
        self._rest = SYN_REST if protocol == TCP else struct.pack("!HH", 12, 0) + b"abcd"
        self._protocol = protocol
        self._over = Event()
        self._at = 14 + (20 if scene.family.a.version == 4 else 40) + 2

    def send(self) -> None:
        programs = self._scene.programs
        frames = [self._frame(CLIENT_PORT + i) for i in range(64)]
        with netns.entered(programs.home):
            while not self._over.is_set():
                for frame in frames:
                    action, after, _ = run_program(programs.fds["from_pod"], frame, A_LINK, 0)
                    port = int.from_bytes(after[self._at : self._at + 2], "big")
                    self.led[color(port) if action == 7 else f"dropped: {action}"] += 1

    def _frame(self, port: int) -> bytes:
        ends = Ends(self._scene.family.a, port, self._scene.vip, PORT)
        return ethernet(GATEWAY_MAC, A_MAC, ends.packet(self._protocol, self._rest))

    def stop(self) -> None:
        self._over.set()


def color(port: int) -> str:
    """Whose backend it is; a refused packet goes back to the client's port."""
    names = {"blue": BLUE, "green": GREEN, "another Service's": OTHER}
    return next((name for name, ports in names.items() if port in ports), "refused")


@contextmanager
def sending(scene: Scene, protocol: int = TCP) -> Iterator[Sender]:
    sender = Sender(scene, protocol)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(sender.send)
        try:
            yield sender
        finally:
            sender.stop()
        running.result()


def until_the_end(sender: Sender, *expected: str) -> Iterator[int]:
    """Counts changes until the time is over, and until there was enough of each that is expected."""
    end, count = time.monotonic() + SECONDS, 0
    while time.monotonic() < end or count < FEWEST or min(sender.led[name] for name in expected) < FEWEST:
        yield count
        count += 1


@pytest.mark.parametrize(
    ("protocol", "affinity"), [(TCP, 0), (TCP, 100), (UDP, 0)], ids=["TCP", "affinity", "UDP"]
)
def test_a_change_of_all_backends(scene: Scene, protocol: int, affinity: int) -> None:
    """And between two of them, another Service comes and goes, whose memory is the freed one."""
    apply(scene, KEY, at(scene, BLUE, affinity, protocol))
    other = at(scene, OTHER, affinity, protocol)
    other = led_by(other, other.frontends[0]._replace(address=b"\xfe" * 16))
    with sending(scene, protocol) as sender:
        for turn in until_the_end(sender, "blue", "green"):
            apply(scene, KEY, at(scene, GREEN if turn % 2 else BLUE, affinity, protocol))
            apply(scene, OTHER_KEY, *([other] if turn % 2 else []))
            collect(scene)
    assert set(sender.led) == {"blue", "green"}


def test_the_frontends_around_it_change(scene: Scene) -> None:
    """Frontends of others are taken out, put in and led elsewhere; none of them is taken for ours."""
    apply(scene, KEY, at(scene, BLUE))
    vip = OTHER_VIPS[scene.family.name].packed.rjust(16, b"\xfe")
    others = [
        replace(
            led_by(at(scene, OTHER), at(scene, OTHER).frontends[0]._replace(address=vip, port=n)),
            port=f"port-{n}",
        )
        for n in range(1, 20)
    ]
    renamed = [replace(plan, port=f"other-{plan.port}") for plan in others[:3]]
    with sending(scene) as sender:
        for turn in until_the_end(sender, "blue"):
            apply(scene, OTHER_KEY, *([], others, renamed)[turn % 3])
            collect(scene)
    assert set(sender.led) == {"blue"}


def test_a_service_comes_and_goes(scene: Scene) -> None:
    """It is there or it is not: refused as a port that the Service lacks, never led to whoever is next."""
    kept, coming = at(scene, GREEN), at(scene, BLUE)
    kept = replace(led_by(kept, kept.frontends[0]._replace(port=PORT + 1)), port="kept")
    other = led_by(at(scene, OTHER), kept.frontends[0]._replace(address=b"\xfe" * 16))
    apply(scene, KEY, kept, coming)
    with sending(scene) as sender:
        for turn in until_the_end(sender, "blue", "refused"):
            apply(scene, KEY, *([kept] if turn % 2 else [kept, coming]))
            apply(scene, OTHER_KEY, *([other] if turn % 2 else []))
            collect(scene)
    assert set(sender.led) == {"blue", "refused"}
