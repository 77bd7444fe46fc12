"""Refusals that leave a node inside the overlay: their checksums are completed on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from nodes import Node
from test_external_datapath import Scene, made

from tulle.lab.spec import Spec

pytestmark = pytest.mark.parametrize("family", [4, 6], ids=["v4", "v6"])


@pytest.fixture
def scene(shared: Callable[..., list[Node]], family: int) -> Iterator[Scene]:
    """Two nodes that are no neighbours."""
    yield from made(shared(Spec(nodes=2, subnets=2)), family)


@pytest.mark.parametrize("how", ["tcp", "udp"])
def test_a_node_and_its_pods_are_refused_by_another_node(scene: Scene, how: str) -> None:
    """S-40."""
    client = scene.there.add("client")
    scene.apply(scene.plan(protocol=how))
    for place in (scene.there, client, scene.world):
        [answer] = scene.ask(how, place=place)
        assert answer.get("error") == "ConnectionRefusedError", (place, answer)
