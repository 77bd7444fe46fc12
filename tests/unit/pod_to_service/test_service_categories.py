"""Which endpoints are used from a node (S-30 to S-35)."""

from __future__ import annotations

import pytest
from service_objects import STATES

from tulle.pod_to_service.categorize import Endpoints, Location, Policy, Standing, categorize
from tulle.pod_to_service.plan import Backend

IN_A = Location("n1", "za")
CLUSTER = Policy()
INTERNAL = Policy(internal_local=True)
EXTERNAL = Policy(external_local=True, accessible=True)
BOTH = Policy(internal_local=True, external_local=True, accessible=True)


def endpoints_of(text: str) -> Endpoints:
    """``1 local za n1, 2 leaving``: a number, then state, place, hinted zones and nodes in any order."""
    found = {}
    for number, *words in (part.split() for part in text.split(",") if part):
        ready, serving, terminating = next((STATES[w] for w in words if w in STATES), STATES["ready"])
        zones = frozenset(w for w in words if w in ("za", "zb", "zc"))
        nodes = frozenset(w for w in words if w in ("n1", "n2", "n3"))
        standing = Standing(ready, serving, terminating, "local" in words, zones, nodes)
        found[Backend(bytes(15) + bytes([int(number)]), 80)] = standing
    return found


def numbers(backends: tuple[Backend, ...]) -> str:
    return " ".join(str(backend.address[15]) for backend in backends)


TOPOLOGY = [
    ("hints of the node's zone", CLUSTER, IN_A, "1 za, 2 zb, 3 zb, 4 za", "1 4", ""),
    (
        "externalTrafficPolicy Local ignores topology",
        EXTERNAL,
        IN_A,
        "1 local zb, 2 za, 3 local za",
        "2 3",
        "1 3",
    ),
    (
        "internalTrafficPolicy Local ignores topology",
        INTERNAL,
        IN_A,
        "1 local zb, 2 za, 3 local za",
        "",
        "1 3",
    ),
    ("empty node labels", CLUSTER, Location("n1"), "1 za, 2 zb", "1 2", ""),
    ("empty zone label", CLUSTER, Location("n1", ""), "1 za, 2 za", "1 2", ""),
    ("node in another zone", CLUSTER, Location("n1", "zc"), "1 za, 2 zb", "1 2", ""),
    ("unready endpoint", CLUSTER, IN_A, "1 za, 2 zb, 3 za unready", "1", ""),
    ("only unready endpoints in my zone", CLUSTER, IN_A, "1 za unready, 2 zb, 3 zc", "2 3", ""),
    ("an unready endpoint's missing hint does not count", CLUSTER, IN_A, "1 za, 2 zb, 3 unready", "1", ""),
    ("missing hints", CLUSTER, IN_A, "1 za, 2, 3 zb", "1 2 3", ""),
    ("several hints per endpoint", CLUSTER, IN_A, "1 za zb, 2 zb zc, 3 za zc", "1 3", ""),
    ("PreferSameNode available", CLUSTER, IN_A, "1 n1 za, 2 n2 za, 3 n3 zb", "1", ""),
    ("PreferSameNode, several hints", CLUSTER, IN_A, "1 n1 n2 za, 2 n2 za, 3 n1 zb", "1 3", ""),
    ("PreferSameNode, some unhinted", CLUSTER, IN_A, "1 n1, 2, 3 n3", "1 2 3", ""),
    ("PreferSameNode, some unhinted: zone", CLUSTER, IN_A, "1 n1 za, 2 zb, 3 n3 za", "1 3", ""),
    ("PreferSameNode, no endpoint for the node: zone", CLUSTER, IN_A, "1 n2 za, 2 n3 zb", "1", ""),
    ("PreferSameNode, none for node nor zone", CLUSTER, IN_A, "1 n2 zb, 2 n3 zb", "1 2", ""),
    ("PreferSameNode, the node's is unready", CLUSTER, IN_A, "1 n1 za unready, 2 n2 za, 3 n3 zb", "2", ""),
    ("PreferSameNode, another of the node's is unready", CLUSTER, IN_A, "1 n1, 2 n1 unready, 3 n2", "1", ""),
    ("PreferSameNode without a node name", CLUSTER, Location("", "za"), "1 n1 za, 2 n2 zb", "1", ""),
    ("topology does not bind what is leaving", CLUSTER, IN_A, "1 za leaving, 2 zb leaving", "1 2", ""),
    ("conflicting topology and localness", EXTERNAL, IN_A, "1 local zb, 2 za, 3 zb", "2", "1"),
]
POLICIES = [
    ("iTP Local, no endpoints", INTERNAL, "", "", "", False),
    ("iTP Local, all remote", INTERNAL, "1, 2", "", "", True),
    ("iTP Local, all local", INTERNAL, "1 local, 2 local", "", "1 2", True),
    ("iTP Local, some local", INTERNAL, "1 local, 2", "", "1", True),
    ("iTP Local, the local one is unready", INTERNAL, "1 local unready, 2", "", "", True),
    ("iTP Local, the local one is leaving", INTERNAL, "1 local leaving, 2", "", "1", True),
    ("iTP Local, all leaving, none local", INTERNAL, "1 leaving, 2 dying", "", "", True),
    ("iTP Cluster, none ready", CLUSTER, "1 unready, 2 local unready", "", "", False),
    ("iTP Cluster, some ready", CLUSTER, "1 unready, 2", "2", "", True),
    ("iTP Cluster, all leaving", CLUSTER, "1 leaving, 2 local leaving, 3 dying", "1 2", "", True),
    ("iTP Cluster, a ready one and one that is leaving", CLUSTER, "1 leaving, 2", "2", "", True),
    ("iTP Cluster, a single endpoint that is not ready", CLUSTER, "1 unready", "", "", False),
    ("iTP Cluster, serving alone is not enough", CLUSTER, "1 odd, 2 local odd", "", "", False),
    ("iTP Local, serving alone is not enough", INTERNAL, "1 odd, 2 local odd", "", "", False),
    ("iTP Local, eTP Cluster", Policy(True, False, True), "1 local, 2", "1 2", "1", True),
    ("iTP Cluster, eTP Local", EXTERNAL, "1 local, 2", "1 2", "1", True),
    ("iTP Local, eTP Local", BOTH, "1 local, 2", "1 2", "1", True),
    ("iTP Local, eTP Local, all remote", BOTH, "1, 2", "1 2", "", True),
    ("iTP Local, eTP Local, all remote and leaving", BOTH, "1 leaving, 2 leaving", "1 2", "", True),
    (
        "iTP Cluster, eTP Local, remote, local leaving",
        EXTERNAL,
        "1 local leaving, 2, 3 leaving",
        "2",
        "1",
        True,
    ),
    (
        "eTP Local ignored, not externally accessible",
        Policy(external_local=True),
        "1 local, 2",
        "1 2",
        "",
        True,
    ),
    ("no cluster endpoints for an internal-only iTP Local", INTERNAL, "1 local, 2, 3", "", "1", True),
    ("eTP Cluster, externally accessible", Policy(accessible=True), "1 local, 2", "1 2", "", True),
]


@pytest.mark.parametrize(
    ("policy", "here", "endpoints", "cluster", "local"), [pytest.param(*c, id=n) for n, *c in TOPOLOGY]
)
def test_topology(policy: Policy, here: Location, endpoints: str, cluster: str, local: str) -> None:
    """S-31, S-32, S-33."""
    found = categorize(endpoints_of(endpoints), policy, here)
    assert (numbers(found.cluster), numbers(found.local), found.anywhere) == (cluster, local, True)


@pytest.mark.parametrize(
    ("policy", "endpoints", "cluster", "local", "anywhere"), [pytest.param(*c, id=n) for n, *c in POLICIES]
)
def test_traffic_policies(policy: Policy, endpoints: str, cluster: str, local: str, anywhere: bool) -> None:
    """S-30, S-31; what ``anywhere`` decides is S-40 to S-42."""
    found = categorize(endpoints_of(endpoints), policy, IN_A)
    assert (numbers(found.cluster), numbers(found.local), found.anywhere) == (cluster, local, anywhere)


def test_publish_not_ready_addresses_needs_no_rule_of_its_own() -> None:
    """S-35: the controller says ready, also of an endpoint that is terminating and does not serve."""
    backend = Backend(bytes(16), 80)
    found = categorize({backend: Standing(True, False, True, False)}, CLUSTER, IN_A)
    assert found.cluster == (backend,)


def test_hints_without_a_name_are_for_nobody() -> None:
    """S-32: not even for a node that has neither name nor zone; but hints they are."""
    nameless = frozenset([""])
    endpoints = {
        Backend(bytes(16), 80): Standing(True, True, False, False, nameless, nameless),
        Backend(bytes(16), 81): Standing(True, True, False, False, frozenset(["za"]), frozenset(["n1"])),
    }
    assert len(categorize(endpoints, CLUSTER, Location("", "")).cluster) == 2
    assert [b.port for b in categorize(endpoints, CLUSTER, Location("", "za")).cluster] == [81]
    assert [b.port for b in categorize(endpoints, CLUSTER, IN_A).cluster] == [81]
