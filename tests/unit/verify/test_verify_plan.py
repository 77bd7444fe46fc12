from __future__ import annotations

import itertools

from networks import NODE_ADDRESSES, PLACES

from tulle.verify.judge import sources
from tulle.verify.plan import families_of, plan
from tulle.verify.statements import FAMILIES, TRAFFIC

CHECKS = plan(PLACES, FAMILIES)


def test_every_pod_asks_every_pod_in_every_way() -> None:
    made = {(c.source, c.target, c.family, c.protocol) for c in CHECKS}
    pods = [place for place in PLACES if not place.host_network]
    for source, target in itertools.permutations(pods, 2):
        for family, protocol in itertools.product(FAMILIES, TRAFFIC):
            assert (source, target, family, protocol) in made
    assert len(made) == len(CHECKS)


def test_each_pair_belongs_to_one_sentence() -> None:
    sentences = {(str(c.source), str(c.target)): c.statement for c in CHECKS}
    assert sentences["n1/a", "n1/a"] == "localhost"
    assert sentences["n1/a", "n1/b"] == "pod-to-pod-same-node"
    assert sentences["n1/a", "n2/a"] == "pod-to-pod"
    assert sentences["n1/host", "n1/a"] == "node-to-pod"
    assert sentences["n1/host", "n2/a"] == "host-to-pod"
    assert sentences["n2/a", "n1/host"] == "pod-to-host"
    assert ("n1/host", "n2/host") not in sentences


def test_no_nat_means_the_senders_own_address() -> None:
    for check in CHECKS:
        if check.source.host_network:
            assert sources(check, NODE_ADDRESSES) == NODE_ADDRESSES[check.source.node]
        elif check.statement in ("pod-to-pod", "pod-to-pod-same-node"):
            assert sources(check, NODE_ADDRESSES) == {check.source.address(check.family)}
        else:
            assert not sources(check, NODE_ADDRESSES)


def test_only_families_that_both_have() -> None:
    checks = plan(PLACES, ("IPv4",))
    assert {check.family for check in checks} == {"IPv4"}
    assert families_of(PLACES) == ("IPv4", "IPv6")
    assert families_of([place for place in PLACES if place.host_network]) == ()
