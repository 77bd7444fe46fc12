"""Checksums as they are on a wire: every sender sums its packets, and every receiver looks at the sums."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nodes import Node
from test_external_datapath import Scene, made

from tulle.lab.spec import Family, Spec

NO_OFFLOAD = str(Path(__file__).parents[1] / "no_offload.py")
UNDERLAYS: dict[str, tuple[Family, ...]] = {"over-v4": ("ipv4", "ipv6"), "over-v6": ("ipv6",)}


@pytest.fixture(params=[("over-v4", 4), ("over-v4", 6), ("over-v6", 6)], ids=lambda p: f"v{p[1]}-{p[0]}")
def scene(shared: Callable[..., list[Node]], request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Over IPv6 a frame has a sum of all that is in it, which the kernel keeps when it opens the frame."""
    underlay, family = request.param
    for each in made(shared(Spec(nodes=2, families=UNDERLAYS[underlay]), "--routing=overlay"), family):
        for place in (each.world, each.near, each.far, each.here, each.there):
            place.run(sys.executable, NO_OFFLOAD, "eth0")
        yield each


@pytest.mark.parametrize(("how", "size"), [("tcp", 300_000), ("udp", 1000)])
def test_checksums_are_right_on_the_way_and_at_the_end(scene: Scene, how: str, size: int) -> None:
    """To a Pod of the node of entry, and to one on the other node; in many packets, both ways."""
    for pod, name in ((scene.near, "near"), (scene.far, "far")):
        scene.apply(scene.plan(scene.serve(pod, name, how), protocol=how))
        for client in (scene.world, scene.near):
            [answer] = scene.ask(how, place=client, size=size)
            assert (answer.get("name"), answer.get("size")) == (name, size), (client.path, answer)
