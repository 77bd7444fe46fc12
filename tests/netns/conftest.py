"""Nodes with agents for the tests of this folder: of a test's own, or shared by the tests of a module."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nodes import ONE, Cluster, Node

from tulle.lab.spec import Spec


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., list[Node]]]:
    """``cluster(Spec(nodes=2), "--routing=native")``: nodes of the test's own, to do anything to."""
    made = Cluster(tmp_path / "cluster")

    def make(spec: Spec = ONE, *flags: str, start: bool = True) -> list[Node]:
        made.build(spec)
        if start:
            made.start_agents(*flags)
        return made.nodes

    try:
        yield make
    finally:
        made.close()


@pytest.fixture(scope="module")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    made: dict[tuple[Spec, tuple[str, ...]], Cluster] = {}

    def make(spec: Spec, *flags: str) -> Cluster:
        if (spec, flags) not in made:
            made[spec, flags] = Cluster(tmp_path_factory.mktemp("cluster") / "cluster")
            made[spec, flags].build(spec)
            made[spec, flags].start_agents(*flags)
        return made[spec, flags]

    try:
        yield make
    finally:
        for each in made.values():
            each.close()


@pytest.fixture
def shared(_kept: Callable[..., Cluster]) -> Iterator[Callable[..., list[Node]]]:
    """Like ``cluster``, but the same nodes for all tests of a module; only the Pods are the test's own."""
    used: list[Node] = []

    def make(spec: Spec = ONE, *flags: str) -> list[Node]:
        used.extend(_kept(spec, *flags).nodes)
        return used

    try:
        yield make
    finally:
        for node in used:
            node.remove_pods()


@pytest.fixture(autouse=True)
def needs_root() -> None:
    assert os.geteuid() == 0, "these tests make network namespaces: run them as root"
