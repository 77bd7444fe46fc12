"""When a Lease may be taken, and for how long who has it may act."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.errors import ApiUnreachable, Conflict, NotFound
from tulle.kube.leader import LEASE_SECONDS, SURE_SECONDS, Leader, Observation

HELD = {"holderIdentity": "other", "renewTime": "t1", "leaseDurationSeconds": 10}


@pytest.mark.parametrize(
    ("spec", "free"),
    [
        ({}, True),
        ({"holderIdentity": ""}, True),
        (HELD | {"holderIdentity": "me"}, True),
        (HELD, False),
    ],
)
def test_at_first_sight(spec: dict[str, Any], free: bool) -> None:
    assert Observation().is_free(spec, "me", 1000.0) is free


def test_a_lease_is_free_once_it_was_seen_unchanged_for_as_long_as_it_says() -> None:
    seen = Observation()
    looks = [(0.0, "t1"), (9.9, "t1"), (10.0, "t2"), (19.9, "t2"), (20.0, "t2")]
    assert [seen.is_free(HELD | {"renewTime": renewed}, "me", now) for now, renewed in looks] == [
        *(False, False, False, False),
        True,
    ]


class Lease:
    """The API's one Lease, which knows versions; ``broken``: nothing is answered."""

    def __init__(self) -> None:
        self.obj: dict[str, Any] | None = None
        self.broken = False

    async def get(self, resource: Any, name: str, namespace: str) -> dict[str, Any]:
        if self.broken:
            raise ApiUnreachable("it is down")
        if self.obj is None:
            raise NotFound(404, "NotFound", "")
        return {**self.obj, "metadata": {**self.obj["metadata"]}}

    async def create(self, resource: Any, obj: dict[str, Any], namespace: str) -> None:
        if self.obj is not None:
            raise Conflict(409, "AlreadyExists", "")
        self.obj = obj | {"metadata": obj["metadata"] | {"resourceVersion": 1}}

    async def replace(self, resource: Any, name: str, obj: dict[str, Any], namespace: str) -> None:
        assert self.obj is not None
        version = self.obj["metadata"]["resourceVersion"]
        if obj["metadata"]["resourceVersion"] != version:
            raise Conflict(409, "Conflict", "")
        self.obj = obj | {"metadata": obj["metadata"] | {"resourceVersion": version + 1}}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def pair() -> tuple[Lease, Clock, Leader, Leader]:
    lease, clock = Lease(), Clock()
    first, second = (Leader(lease, "l", "n", each, clock) for each in ("one", "two"))  # type: ignore[arg-type]
    return lease, clock, first, second


async def test_one_leads_and_the_other_takes_over_when_it_is_silent() -> None:
    lease, clock, first, second = pair()
    assert await first.attempt() and not await second.attempt()
    clock.now = LEASE_SECONDS - 1
    assert await first.attempt() and not await second.attempt()
    clock.now = 2 * LEASE_SECONDS
    assert await second.attempt() and second.sure and not first.sure
    assert not await first.attempt()
    assert lease.obj and lease.obj["spec"]["leaseTransitions"] == 2


async def test_nobody_is_sure_longer_than_others_wait() -> None:
    lease, clock, first, second = pair()
    await first.attempt()
    await second.attempt()
    lease.broken = True
    clock.now = 5
    assert not await first.attempt() and first.sure, "an API that is away for a while changes nothing"
    clock.now = SURE_SECONDS
    assert not first.sure
    lease.broken = False
    assert not await second.attempt(), "there is time between the two"


async def test_of_two_who_find_it_free_one_gets_it() -> None:
    lease, clock, first, second = pair()
    await first.attempt()
    await second.attempt()
    clock.now = LEASE_SECONDS
    seen = await lease.get(None, "l", "n")
    assert await second.attempt()
    with pytest.raises(Conflict):
        await lease.replace(None, "l", seen, "n")


async def test_a_lease_that_is_given_back_is_free_at_once() -> None:
    _, _, first, second = pair()
    await first.attempt()
    await first.release()
    assert not first.sure
    assert await second.attempt() and second.sure
    await first.release()
    assert not await first.attempt(), "only the holder gives it back"
