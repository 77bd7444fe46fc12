"""One node answers, never two, and another one soon after it fell silent; on clocks that do not agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from announce_world import VIP, World
from hypothesis import given
from hypothesis import strategies as st
from tests.effort import effort

from tulle.external_to_service.announce.actions import Fence, Remove, Renew, Start, Take
from tulle.external_to_service.announce.election import Election
from tulle.external_to_service.announce.leases import MARGIN, SECONDS, Record, grant_name
from tulle.external_to_service.announce.vips import Vip

NODES = "abc"


def settled(seed: int = 1, names: str = NODES) -> World:
    """One of them answers, the first, and all know."""
    world = World(seed, names)
    world.want(*names)
    world.start()
    world.until(lambda: world.answering() == [names[0]], 0.5)
    world.run(2.0)
    return world


def test_the_first_candidate_takes_what_is_free() -> None:
    world = World(1)
    world.want("b", "a", "c")
    world.start()
    assert world.until(lambda: bool(world.answering()), 1.0) < 0.15
    world.run(10)
    assert world.answering() == ["b"] and world.holder() == "b"


def test_nothing_to_announce_is_nothing_written() -> None:
    world = World(1)
    world.want()
    world.start()
    world.run(20)
    assert world.api.writes == 0


def test_only_the_holder_writes() -> None:
    world = settled()
    before = world.api.writes
    world.run(10)
    assert 23 <= world.api.writes - before <= 28  # one renewal each 0.4 s by its own clock


@pytest.mark.parametrize("seed", range(10))
def test_a_dead_node_is_replaced(seed: int) -> None:
    world = settled(seed)
    world.hosts["a"].kill()
    assert world.until(lambda: world.answering() in (["b"], ["c"]), 2.0) < 1.7


@pytest.mark.parametrize("seed", range(10))
def test_so_are_several_at_once(seed: int) -> None:
    """That the next one is dead, too, nobody can know: it held nothing."""
    world = settled(seed, "abcd")
    for name in "abc":
        world.hosts[name].kill()
    assert world.until(lambda: world.answering() == ["d"], 2.0) < 1.85


def test_who_comes_back_does_not_take_it_back() -> None:
    world = settled()
    world.hosts["a"].kill()
    world.until(lambda: world.answering() == ["b"], 2.0)
    world.hosts["a"].start()
    world.run(10)
    assert world.answering() == ["b"]


def test_a_node_that_is_cut_off_falls_silent_by_itself() -> None:
    world = settled()
    world.hosts["a"].cut_off(True)
    assert world.until(lambda: world.answering() != ["a"], 2.0) <= SECONDS * 1.05
    world.until(lambda: world.answering() == ["b"], 1.0)
    world.hosts["a"].cut_off(False)
    world.run(5)
    assert world.answering() == ["b"]


def test_the_api_away_and_back() -> None:
    """Nobody answers meanwhile, and then who did before."""
    world = settled()
    for host in world.hosts.values():
        host.cut_off(True)
    world.run(SECONDS * 1.1)
    assert world.answering() == []
    world.run(30)
    for host in world.hosts.values():
        host.cut_off(False)
    world.publish()
    assert world.until(lambda: world.answering() == ["a"], 2.0) < 1.0


def test_a_restart_goes_on_without_a_gap() -> None:
    world = settled()
    world.hosts["a"].kill()
    world.run(0.2)
    world.hosts["a"].start()
    for _ in range(300):
        world.run(0.01)
        assert world.answering() == ["a"]


def test_a_node_that_stops_is_replaced_at_once() -> None:
    world = settled()
    world.hosts["a"].stop()
    assert world.answering() == []
    assert world.until(lambda: world.answering() == ["b"], 1.0) < 0.15


def test_who_is_no_candidate_any_more_gives_it_away() -> None:
    world = settled()
    world.want("c", "b")
    assert world.until(lambda: world.answering() == ["c"], 1.0) < 0.15


def test_a_keeper_keeps_it_and_does_not_take_it() -> None:
    world = settled()
    world.want("b", keepers="a")
    world.run(5)
    assert world.answering() == ["a"]
    world.hosts["a"].kill()
    world.hosts["a"].start()
    world.run(5)
    assert world.answering() == ["a"]  # by the session before
    world.hosts["a"].stop()
    world.until(lambda: world.answering() == ["b"], 1.0)
    world.hosts["a"].start()
    world.run(5)
    assert world.answering() == ["b"]


def test_what_is_not_announced_any_more_leaves_nothing() -> None:
    world = settled()
    world.want()
    world.run(1)
    assert world.answering() == [] and world.api.leases == {}


def test_a_dead_holder_of_what_is_not_announced_any_more() -> None:
    world = settled()
    world.hosts["a"].kill()
    world.want()
    world.run(15)
    assert [name for name in world.api.leases if "-ip-" in name] == []


def test_a_grant_deleted_by_hand_is_made_anew_by_its_holder() -> None:
    world = settled()
    world.api.delete(grant_name(VIP))
    world.publish()
    world.until(lambda: world.answering() == [], 0.1)
    world.until(lambda: world.answering() == ["a"], 0.2)


def test_a_beat_deleted_by_hand() -> None:
    world = settled()
    world.api.delete("tulle-l2-node-a")
    world.publish()
    world.run(0.2)
    world.until(lambda: world.answering() == ["a"], 0.5)
    world.run(5)
    assert world.answering() == ["a"]


def test_a_watch_that_hangs_does_not_take_from_the_living() -> None:
    """The Fence is refused: the API has seen renewals that this node has not."""
    world = settled(names="ab")
    other = world.hosts["b"]
    other._planned = True  # as if an event were under way for ever
    world.run(10)
    assert world.answering() == ["a"]
    world.hosts["a"].kill()
    world.until(lambda: world.answering() == ["b"], 3.5)


FAULTS: dict[str, Callable[[World, str], None]] = {
    "kill": lambda world, name: world.hosts[name].kill(),
    "start": lambda world, name: world.hosts[name].start(),
    "restart": lambda world, name: (world.hosts[name].kill(), world.hosts[name].start())[0],
    "stop": lambda world, name: world.hosts[name].stop(),
    "freeze": lambda world, name: world.hosts[name].freeze(True),
    "thaw": lambda world, name: world.hosts[name].freeze(False),
    "cut off": lambda world, name: world.hosts[name].cut_off(True),
    "mute": lambda world, name: setattr(world.hosts[name], "mute", True),
    "connect": lambda world, name: (world.hosts[name].cut_off(False), world.publish())[0],
    "slow": lambda world, _: setattr(world, "longest", 1.5),
    "fast": lambda world, _: setattr(world, "longest", 0.02),
    "prefer": lambda world, name: world.want(name, *NODES.replace(name, "")),
    "exclude": lambda world, name: world.want(*NODES.replace(name, "")),
    "forget": lambda world, _: world.want(),
    "lose beat": lambda world, name: _delete(world, f"tulle-l2-node-{name}"),
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(sorted(FAULTS)), st.sampled_from(NODES), st.sampled_from([0.0, 0.05, 0.3, 1.0, 1.5])
    ),
    max_size=25,
)


def _delete(world: World, name: str) -> None:
    if name in world.api.leases:
        world.api.delete(name)
        world.publish()


def recover(world: World) -> None:
    """All is well from now on."""
    world.longest, world.loss = 0.02, 0.0
    for host in world.hosts.values():
        host.cut_off(False)
        host.freeze(False)
        if host.election is None:
            host.start()
    world.want(*NODES)
    world.publish()


@given(st.integers(0, 10**9), STEPS, st.sampled_from([0.0, 0.1, 0.4]))
@effort(3)
def test_never_two_and_one_in_the_end(seed: int, steps: list[tuple[str, str, float]], loss: float) -> None:
    """Whatever happens, and however late or lost what is sent: ``World.check`` looks after each event."""
    world = World(seed, NODES, delay=0.05, loss=loss)
    world.want(*NODES)
    world.start()
    for fault, name, pause in steps:
        FAULTS[fault](world, name)
        world.run(pause)
    recover(world)
    world.run(6.0)
    world.until(lambda: len(world.answering()) == 1, 6.0)
    answering = world.answering()
    world.run(4.0)
    assert world.answering() == answering and world.holder() == answering[0]


def holding(now: float = 50.0) -> tuple[Election, Renew]:
    """An election that holds the address by a session asked for at ``now``, and its first renewal."""
    election = Election("a", lambda: "a_1")
    election.listed([], 1, now)
    election.want({VIP: Vip(VIP, ("a",), frozenset(), (1,))}, now)
    [start] = election.due(now)[0]
    assert isinstance(start, Start)
    election.succeeded(start, Record(start.name, 2, "a_1", 0), now + 0.1)
    actions, later = election.due(now + 0.1)
    [take] = [action for action in actions if isinstance(action, Take)]
    election.succeeded(take, Record(take.name, 3, "a_1", 0), now + 0.1)
    assert later == now + 0.4
    [renew] = election.due(later)[0]
    assert isinstance(renew, Renew)
    return election, renew


def test_a_lease_runs_from_the_request_not_from_the_answer() -> None:
    election, renew = holding()
    assert election.held() == {VIP: 50.0 + SECONDS}
    election.succeeded(renew, Record(renew.name, 4, "a_1", 0), 51.0)
    assert election.held() == {VIP: 50.4 + SECONDS}


def test_answers_in_another_order() -> None:
    election, first = holding()
    [second] = election.due(50.8)[0]
    for action in (second, first):
        election.succeeded(action, Record(first.name, 4, "a_1", 0), 51.0)
    assert election.held() == {VIP: 50.8 + SECONDS}


def test_a_fenced_session_holds_nothing() -> None:
    for tell in (
        lambda e, r: e.refused(r, 52.0),
        lambda e, r: e.see(Record(r.name, 9, "", 0), 52.0),
        lambda e, r: e.miss(r.name, 9, 52.0),
    ):
        election, renew = holding()
        tell(election, renew)
        assert election.held() == {}


def test_old_news_is_none() -> None:
    election, renew = holding()
    assert not election.see(Record(renew.name, 1, "", 0), 52.0)
    assert not election.miss(grant_name(VIP), 2, 52.0)
    assert election.held() == {VIP: 50.0 + SECONDS}


def waiting(beat: Record | None) -> Election:
    """Another node holds the address, by a session that is the one of ``beat``, or not."""
    election = Election("b", lambda: "b_1")
    election.want({VIP: Vip(VIP, ("b",), frozenset(), (1,))}, 50.0)
    grant = Record(grant_name(VIP), 5, "a_1", 0)
    election.listed([grant, *([beat] if beat else [])], 10, 50.0)
    return election


@pytest.mark.parametrize(
    ("beat", "kind"),
    [
        pytest.param(Record("tulle-l2-node-a", 9, "a_1", 0), Fence, id="silent"),
        pytest.param(Record("tulle-l2-node-a", 9, "a_2", 1), Start, id="another session"),
        pytest.param(None, Start, id="no beat"),
    ],
)
def test_how_long_others_wait(beat: Record | None, kind: type) -> None:
    """As long as the last session could be answering, whatever became of it."""
    election = waiting(beat)
    actions, later = election.due(50.0)
    assert actions == [] and later == pytest.approx(50.0 + SECONDS + MARGIN)
    assert kind in [type(action) for action in election.due(later + 1e-6)[0]]


def test_nobody_waits_for_a_session_that_was_ended() -> None:
    assert [type(a) for a in waiting(Record("tulle-l2-node-a", 9, "", 0)).due(50.0)[0]] == [Start]


def test_a_fence_that_was_not_answered_is_tried_after_a_look() -> None:
    """Whoever was cut off along with the API must have time to renew."""
    election = waiting(Record("tulle-l2-node-a", 9, "a_1", 0))
    [fence] = [action for action in election.due(52.0)[0] if isinstance(action, Fence)]
    election.failed(fence, 52.5)
    assert election.stale
    assert not [action for action in election.due(60.0)[0] if isinstance(action, Fence)]
    election.listed([Record("tulle-l2-node-a", 9, "a_1", 0), Record(grant_name(VIP), 5, "a_1", 0)], 11, 60.0)
    assert not [action for action in election.due(60.4)[0] if isinstance(action, Fence)]
    assert [action for action in election.due(60.6)[0] if isinstance(action, Fence)]


def test_what_is_older_than_a_list_is_not_believed() -> None:
    """A watch that lags behind the list may still tell of what was there before."""
    election = waiting(None)
    assert not election.see(Record("tulle-l2-node-a", 8, "", 0), 50.1)
    assert election.due(50.2)[0] == []


@pytest.mark.parametrize("seed", range(10))
def test_who_comes_back_excluded_falls_silent_before_it_gives_away(seed: int) -> None:
    """What the agent before it had the kernel answer has not run out yet."""
    world = settled(seed)
    world.hosts["a"].kill()
    world.want("b", "c")
    world.hosts["a"].start()
    assert world.until(lambda: world.answering() in (["b"], ["c"]), 1.0) < 0.3


def test_a_session_that_nobody_needs_ends_also_where_its_beat_is_unknown() -> None:
    """A list that was made after our Start and did not have it any more is believed more than its answer."""
    election = Election("a", lambda: "a_1")
    election.listed([], 10, 50.0)
    election.want({VIP: Vip(VIP, ("a",), frozenset(), (1,))}, 50.0)
    [start] = election.due(50.0)[0]
    election.succeeded(start, Record(start.name, 5, "a_1", 0), 50.1)
    election.want({}, 50.2)
    actions, later = election.due(51.0)
    assert [type(action) for action in actions] == [Remove] and later > 51.0
    assert election.due(51.1)[1] > 51.1
