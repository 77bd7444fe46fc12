"""How many flows there are, by the kernel's own word."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from programs import Programs

from tulle.pod_to_pod.flow_count import FlowCount


@pytest.fixture
def count(programs: Programs) -> Iterator[FlowCount]:
    made = FlowCount(programs.pins)
    try:
        yield made
    finally:
        made.close()


def test_flows_are_counted_also_where_older_ones_made_room(programs: Programs, count: FlowCount) -> None:
    flows = programs.maps["flows"]
    assert count.read() == 0
    keys = [number.to_bytes(40, "little") for number in range(flows.most + 1000)]
    flows.update_all(keys[:100], [bytes(72)] * 100)
    assert count.read() == 100
    flows.update_all(keys, [bytes(72)] * len(keys))
    there = list(flows.keys(40))
    assert count.read() == len(there) < len(keys)
    flows.discard_all(there[:10])
    assert count.read() == len(there) - 10
