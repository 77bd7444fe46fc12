"""What BIRD says of sessions, and what of it comes into the status of BGPPeers."""

from __future__ import annotations

from typing import Any

import pytest
from bgp_objects import peer, peer_object

from tulle.external_to_service.bgp.peers import Problem
from tulle.external_to_service.bgp.sessions import Observed, judge_sessions, parse
from tulle.external_to_service.bgp.status import news, patch
from tulle.model.bgp import DOWN, ESTABLISHED, INVALID, UNKNOWN, Session

NOW, THEN = "2026-01-02T03:04:05Z", "2026-01-01T00:00:00Z"
SAID = """\
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     2026-01-01T00:00:00Z

pods4      Static     master4    up     2026-01-01T00:00:00Z
  Channel ipv4
    Routes:         1 imported, 0 exported, 1 preferred

peer.router BGP        ---        up     2026-01-01T00:00:00Z  Established
  BGP state:          Established
    Neighbor address: 172.30.1.1
    Neighbor AS:      64513
    Local AS:         64512
  Channel ipv4
    State:          UP
    Routes:         0 imported, 2 exported, 0 preferred
      Export updates:              2          0          0        ---          2
  Channel ipv6
    Routes:         0 imported, 1 exported, 0 preferred

peer.other BGP        ---        start  2026-01-01T00:00:07Z  Active        BGP Error: Bad peer AS
  BGP state:          Active
    Neighbor address: 172.30.1.2
    Neighbor AS:      64514
    Local AS:         64512
    Last error:       BGP Error: Bad peer AS
""".splitlines()


def test_birds_answer_is_read() -> None:
    up = Observed("peer.router", THEN, "Established", "", "172.30.1.1", "64513", "64512", 3)
    late = "2026-01-01T00:00:07Z"
    down = Observed("peer.other", late, "Active", "BGP Error: Bad peer AS", "172.30.1.2", "64514", "64512")
    assert parse(SAID) == {"peer.router": up, "peer.other": down}
    assert parse([]) == {} == parse(["nonsense", " more of it", "peer.x BGP"])


@pytest.mark.parametrize(
    ("observed", "fault", "state", "words"),
    [
        (Observed("x", THEN, "Established"), "", ESTABLISHED, ""),
        (Observed("x", THEN, "Established"), "bird is missing", DOWN, "bird is missing"),
        (None, "", DOWN, "has not begun"),
        (Observed("x", THEN, "Connect"), "", DOWN, "another password"),
        (Observed("x", THEN, "Idle"), "", DOWN, "ebgpMultihop"),
        (Observed("x", THEN, "Active", "Socket: Connection refused"), "", DOWN, "Connection refused"),
        (Observed("x", THEN, "Active", "BGP Error: Bad peer AS"), "", DOWN, "than peerASN"),
    ],
)
def test_states_of_sessions(observed: Observed | None, fault: str, state: str, words: str) -> None:
    judged: Any = {"x": (peer(), ())}
    found = judge_sessions(judged, {"x": observed} if observed else {}, fault, {}, NOW)["x"]
    assert found.state == state and words in found.message
    assert found.since == (THEN if state == ESTABLISHED else NOW)


def test_a_state_that_lasts_keeps_its_time() -> None:
    judged = {"x": (None, (Problem("spec.peerASN", "0 is wrong"),)), "y": (peer(), ())}
    before = {"x": Session(INVALID, THEN, "other words"), "y": Session(ESTABLISHED, THEN)}
    found = judge_sessions(judged, {}, "", before, NOW)
    assert found["x"] == Session(INVALID, THEN, "spec.peerASN: 0 is wrong")
    assert found["y"].since == NOW


def entry(state: str, message: str = "") -> dict[str, str]:
    return {"state": state, "since": THEN, "message": message}


def test_each_node_writes_its_own_entry_and_the_condition_over_all() -> None:
    there = peer_object(status={"sessions": {"b": entry(ESTABLISHED), "gone": entry(DOWN)}})
    found = patch(there, "a", Session(DOWN, NOW, "refused"), ["a", "b"], NOW)
    assert found and found["metadata"] == {"resourceVersion": "7"}
    assert found["status"]["sessions"] == {
        "gone": None,
        "a": {"state": DOWN, "since": NOW, "message": "refused"},
    }
    [condition] = found["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "SessionDown")
    assert condition["message"] == "1 of 2 nodes; a: refused"


def test_what_is_right_is_not_written_again() -> None:
    session = Session(ESTABLISHED, THEN)
    first = patch(peer_object(), "a", session, ["a"], NOW)
    assert first
    there = peer_object(status=first["status"])
    assert patch(there, "a", session, ["a"], "later") is None
    assert patch(there, "b", None, ["a", "b"], "later") is None, "it is not for node b"
    second = patch(there, "b", Session(ESTABLISHED, NOW), ["a", "b"], "later")
    assert second and second["status"]["conditions"][0]["lastTransitionTime"] == NOW
    assert second["status"]["conditions"][0]["message"] == "2 of 2 nodes"


def test_the_last_node_that_leaves_says_so() -> None:
    there = peer_object(status={"sessions": {"a": entry(ESTABLISHED)}})
    found = patch(there, "a", None, ["a"], NOW)
    assert found and found["status"]["sessions"] == {"a": None}
    assert found["status"]["conditions"][0]["status"] == "Unknown"


def test_what_a_silent_node_said_is_unknown_also_where_nobody_else_has_the_peer() -> None:
    there = peer_object(status={"sessions": {"a": entry(ESTABLISHED)}})
    found = patch(there, "b", None, ["a", "b"], NOW, silent=["a"])
    said = {"state": UNKNOWN, "since": NOW, "message": "the node is not heard of; it last said: Established"}
    assert found and found["status"]["sessions"] == {"a": said}
    [condition] = found["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("Unknown", "NodeSilent")
    marked = peer_object(status=found["status"])
    assert patch(marked, "b", None, ["a", "b"], "later", silent=["a"]) is None
    back = patch(marked, "a", Session(ESTABLISHED, THEN), ["a", "b"], "later", silent=["a"])
    assert back and back["status"]["sessions"] == {"a": entry(ESTABLISHED)}
    assert back["status"]["conditions"][0]["status"] == "True"


def test_a_session_that_is_down_counts_more_than_a_silent_node() -> None:
    there = peer_object(status={"sessions": {"a": entry(ESTABLISHED), "b": entry(DOWN, "refused")}})
    found = patch(there, "b", Session(DOWN, THEN, "refused"), ["a", "b"], NOW, silent=["a"])
    assert found and found["status"]["conditions"][0]["status"] == "False"


def test_many_nodes_are_not_all_named() -> None:
    sessions = {f"n{i}": entry(INVALID, "wrong") for i in range(9)}
    found = patch(
        peer_object(status={"sessions": sessions}), "n0", Session(INVALID, THEN, "wrong"), sessions, NOW
    )
    assert found
    message = found["status"]["conditions"][0]["message"]
    assert message == "0 of 9 nodes; n0: wrong; n1: wrong; n2: wrong; …"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (None, Session(ESTABLISHED, NOW), "SessionEstablished"),
        (None, Session(DOWN, NOW, "refused"), "SessionDown"),
        (Session(ESTABLISHED, THEN), Session(DOWN, NOW, "refused"), "SessionDown"),
        (Session(DOWN, THEN, "refused"), Session(DOWN, THEN, "refused"), None),
        (Session(DOWN, THEN, "refused"), Session(INVALID, NOW, "spec.x: wrong"), "InvalidField"),
        (Session(DOWN, THEN, "refused"), None, None),
    ],
)
def test_events_tell_what_is_new(before: Session | None, after: Session | None, reason: str | None) -> None:
    found = news(before, after)
    assert (found[0] if found else None) == reason
