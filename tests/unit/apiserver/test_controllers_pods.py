"""ReplicaSets, DaemonSets and the scheduler on their pure cores, as tables."""

from __future__ import annotations

import copy
import math
from datetime import timedelta
from typing import Any

import pytest
from controller_objects import CREATED, NOW, TEMPLATE, Object, node, owned_by, pod, ready, running, workload

from tulle.apiserver.controllers import daemonset, replicaset
from tulle.apiserver.controllers.objects import selects, template_hash
from tulle.apiserver.controllers.placement import fits_affinity, ports_collide, untolerated_taint
from tulle.apiserver.controllers.scheduler import is_waiting, place


def names(objects: list[Object]) -> list[str]:
    return [obj["metadata"]["name"] for obj in objects]


class TestReplicaSet:
    def test_creates_what_is_missing(self) -> None:
        rs = workload("ReplicaSet", replicas=3)
        mine = running("a", ownerReferences=owned_by(rs, "ReplicaSet"))
        plan = replicaset.plan(rs, [mine], NOW)
        assert len(plan.actions.create) == 2
        created = plan.actions.create[0]
        assert created["metadata"]["generateName"] == "web-"
        assert created["metadata"]["ownerReferences"][0]["uid"] == rs["metadata"]["uid"]
        assert created["spec"] == TEMPLATE["spec"]
        assert (
            plan.status["replicas"] == plan.status["readyReplicas"] == plan.status["availableReplicas"] == 1
        )

    def test_ended_and_leaving_pods_do_not_count(self) -> None:
        rs = workload("ReplicaSet", replicas=1)
        mine = {"ownerReferences": owned_by(rs, "ReplicaSet")}
        leaving = running("a", deletionTimestamp=CREATED, **mine)
        failed = pod("b", status={"phase": "Failed"}, **mine)
        plan = replicaset.plan(rs, [leaving, failed], NOW)
        assert len(plan.actions.create) == 1
        assert (plan.status["replicas"], plan.status["terminatingReplicas"]) == (0, 1)

    def test_adopts_and_releases_by_label(self) -> None:
        rs = workload("ReplicaSet", replicas=1)
        orphan = running("orphan")
        stranger = running("stranger", labels={"app": "other"})
        changed = running("changed", labels={"app": "other"}, ownerReferences=owned_by(rs, "ReplicaSet"))
        taken = running("taken", ownerReferences=owned_by(workload("ReplicaSet"), "ReplicaSet"))
        actions = replicaset.plan(rs, [orphan, stranger, changed, taken], NOW).actions
        assert (names(actions.adopt), names(actions.release)) == (["orphan"], ["changed"])
        assert not actions.create and not actions.delete

    def test_that_is_being_deleted_touches_nothing(self) -> None:
        rs = workload("ReplicaSet", replicas=3)
        rs["metadata"]["deletionTimestamp"] = CREATED
        actions = replicaset.plan(rs, [running("orphan")], NOW).actions
        assert actions == replicaset.Actions()

    def test_waits_for_min_ready_seconds(self) -> None:
        rs = workload("ReplicaSet", replicas=1, minReadySeconds=30)
        young = running(
            conditions=ready(since="2026-05-01T11:59:40Z"), ownerReferences=owned_by(rs, "ReplicaSet")
        )
        plan = replicaset.plan(rs, [young], NOW)
        assert (plan.status["readyReplicas"], plan.status["availableReplicas"], plan.look_again) == (1, 0, 10)
        plan = replicaset.plan(rs, [young], NOW + timedelta(seconds=10))
        assert (plan.status["availableReplicas"], plan.look_again) == (1, math.inf)

    def test_lets_go_of_what_serves_least(self) -> None:
        rs = workload("ReplicaSet", replicas=0)
        own = {"ownerReferences": owned_by(rs, "ReplicaSet")}
        cheap = {"annotations": {replicaset.DELETION_COST: "-5"}}
        restarted = running("restarted", **own)
        restarted["status"]["containerStatuses"] = [{"restartCount": 3}]
        pods = [
            running("old", **own),
            restarted,
            running("new", **own, creationTimestamp="2026-05-01T11:30:00Z"),
            running("ready late", conditions=ready(since="2026-05-01T11:50:00Z"), **own),
            running("cheap", **own, **cheap),
            running("not ready", conditions=ready("False"), **own),
            pod("pending", spec={"nodeName": "n1"}, **own),
            pod("unassigned", **own),
        ]
        ordered = ["unassigned", "pending", "not ready", "cheap", "ready late", "restarted", "new", "old"]
        for count in range(len(pods)):
            rs["spec"]["replicas"] = len(pods) - count
            assert names(replicaset.plan(rs, pods, NOW).actions.delete) == ordered[:count]


class TestDaemonSet:
    NODES = tuple(node(name) for name in ("n1", "n2", "n3"))

    @staticmethod
    def of(daemon: Object, at: str, image: str = "i:1", available: bool = True, **more: Any) -> Object:
        """A Pod of ``daemon`` on a node, as the API holds it."""
        made = copy.deepcopy(daemon)
        made["spec"]["template"]["spec"]["containers"][0]["image"] = image
        created = daemonset.pod_for(made, at)
        return running(
            f"{at}-{image}",
            labels=created["metadata"]["labels"],
            ownerReferences=owned_by(daemon, "DaemonSet"),
            conditions=ready("True" if available else "False"),
            **more,
        ) | {"spec": {**created["spec"], "nodeName": at}}

    @staticmethod
    def daemon(**limits: Any) -> Object:
        return workload("DaemonSet", updateStrategy={"type": "RollingUpdate", "rollingUpdate": limits})

    def test_one_pod_for_every_node_that_may_have_one(self) -> None:
        daemon = self.daemon(maxUnavailable=1)
        nodes = [
            *self.NODES,
            node("cordoned", unschedulable=True),
            node("not ready", taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]),
            node("tainted", taints=[{"key": "mine", "effect": "NoSchedule"}]),
        ]
        plan = daemonset.plan(daemon, nodes, [self.of(daemon, "n2"), self.of(daemon, "tainted")], NOW)
        assert [daemonset.node_of(made) for made in plan.actions.create] == [
            "cordoned",
            "n1",
            "n3",
            "not ready",
        ]
        assert plan.actions.delete == []
        status = {key: value for key, value in plan.status.items() if value}
        assert status["desiredNumberScheduled"] == 5
        assert status["currentNumberScheduled"] == status["numberReady"] == status["numberAvailable"] == 1
        assert (status["numberMisscheduled"], status["numberUnavailable"]) == (1, 4)

    def test_leaves_nodes_that_it_may_not_stay_on(self) -> None:
        daemon = self.daemon(maxUnavailable=1)
        daemon["spec"]["template"] = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "nodeSelector": {"a": "1"}}}
        nodes = [node("n1", labels={"a": "1"}), node("n2"), node("n3", labels={"a": "1"})]
        nodes[2]["spec"]["taints"] = [{"key": "mine", "effect": "NoExecute"}]
        pods = [self.of(daemon, name) for name in ("n1", "n2", "n3", "vanished")]
        assert names(daemonset.plan(daemon, nodes, pods, NOW).actions.delete) == [
            "n2-i:1",
            "n3-i:1",
            "vanished-i:1",
        ]

    def test_waits_for_a_leaving_pod_and_replaces_a_failed_one(self) -> None:
        daemon = self.daemon(maxUnavailable=1)
        leaving, failed = self.of(daemon, "n1", deletionTimestamp=CREATED), self.of(daemon, "n2")
        failed["status"]["phase"] = "Failed"
        actions = daemonset.plan(daemon, list(self.NODES[:2]), [leaving, failed], NOW).actions
        assert (actions.create, names(actions.delete)) == ([], ["n2-i:1"])

    @pytest.mark.parametrize(
        ("unavailable", "images", "limits", "deleted", "created"),
        [
            ([], ["i:0", "i:0", "i:0"], {"maxUnavailable": 1}, ["n1-i:0"], []),
            ([], ["i:1", "i:0", "i:0"], {"maxUnavailable": "50%"}, ["n2-i:0", "n3-i:0"], []),
            (["n1"], ["i:1", "i:0", "i:0"], {"maxUnavailable": 1}, [], []),
            (["n3"], ["i:1", "i:0", "i:0"], {"maxUnavailable": 1}, ["n3-i:0"], []),
            ([], ["i:0", "i:0", "i:0"], {"maxUnavailable": 0, "maxSurge": 2}, [], ["n1", "n2"]),
            (["n3"], ["i:0", "i:0", "i:0"], {"maxUnavailable": 0, "maxSurge": 1}, [], ["n3"]),
        ],
    )
    def test_rolls_within_its_limits(
        self,
        unavailable: list[str],
        images: list[str],
        limits: Object,
        deleted: list[str],
        created: list[str],
    ) -> None:
        daemon = self.daemon(**limits)
        placed = zip(("n1", "n2", "n3"), images, strict=True)
        pods = [self.of(daemon, name, image, name not in unavailable) for name, image in placed]
        actions = daemonset.plan(daemon, list(self.NODES), pods, NOW).actions
        assert names(actions.delete) == deleted
        assert [daemonset.node_of(made) for made in actions.create] == created

    def test_a_surging_pod_replaces_the_old_one_once_it_serves(self) -> None:
        daemon = self.daemon(maxUnavailable=0, maxSurge=1)
        pods = [self.of(daemon, "n1", "i:0"), self.of(daemon, "n1"), self.of(daemon, "n2", "i:0")]
        actions = daemonset.plan(daemon, list(self.NODES[:2]), pods, NOW).actions
        assert (names(actions.delete), actions.create) == (["n1-i:0"], [])

    def test_pods_keep_the_affinity_and_tolerations_of_the_template(self) -> None:
        term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        spec = {**TEMPLATE["spec"], "affinity": {"nodeAffinity": required}, "tolerations": [{"key": "mine"}]}
        daemon = workload("DaemonSet", template={**TEMPLATE, "spec": {**spec, "hostNetwork": True}})
        made = daemonset.pod_for(daemon, "n1")
        assert fits_affinity(made["spec"], node("n1", labels={"zone": "a"}))
        assert not fits_affinity(made["spec"], node("n2", labels={"zone": "a"}))
        assert not fits_affinity(made["spec"], node("n1", labels={"zone": "b"}))
        keys = [toleration["key"] for toleration in made["spec"]["tolerations"]]
        assert keys[0] == "mine" and keys[-1] == "node.kubernetes.io/network-unavailable"


class TestScheduler:
    @staticmethod
    def chosen(pods: list[Object], nodes: list[Object]) -> list[str]:
        placed = [pod for pod in pods if pod["spec"].get("nodeName")]
        placements = place(filter(is_waiting, pods), placed, nodes)
        return [placement.node or placement.message for placement in placements]

    def test_spreads_pods_of_an_owner_and_then_all(self) -> None:
        first, second = workload("ReplicaSet"), workload("ReplicaSet")
        bound = running("bound", ownerReferences=owned_by(second, "ReplicaSet"))
        waiting = [pod(f"a{n}", ownerReferences=owned_by(first, "ReplicaSet")) for n in range(4)]
        waiting += [pod(f"b{n}", ownerReferences=owned_by(second, "ReplicaSet")) for n in range(2)]
        nodes = [node("n1"), node("n2"), node("n3")]
        assert self.chosen([bound, *waiting], nodes) == ["n2", "n3", "n1", "n2", "n3", "n2"]

    def test_says_why_not(self) -> None:
        nodes = [
            node("n1", unschedulable=True),
            node("n2", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]),
            node("n3"),
            node("n4"),
        ]
        picky = pod(spec={"nodeSelector": {"disk": "ssd"}})
        assert self.chosen([picky], nodes) == [
            "0/4 nodes are available: 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable, "
            "2 node(s) didn't match Pod's node affinity/selector."
        ]
        assert self.chosen([picky], []) == ["no nodes available to schedule pods"]

    def test_counts_pods_and_ports_also_of_those_just_placed(self) -> None:
        small = node("n1", status={"allocatable": {"pods": "2"}})
        assert self.chosen([pod("a"), pod("b"), pod("c")], [small]) == [
            "n1",
            "n1",
            "0/1 nodes are available: 1 Too many pods.",
        ]
        ports = {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}
        message = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
        assert self.chosen([pod("a", spec=ports), pod("b", spec=ports)], [node("n1")]) == ["n1", message]

    def test_leaves_other_pods_alone(self) -> None:
        pods = [
            pod(spec={"schedulerName": "mine"}),
            pod(spec={"schedulingGates": [{"name": "g"}]}),
            pod(deletionTimestamp=CREATED),
            pod(status={"phase": "Failed"}),
            running(),
        ]
        assert self.chosen(pods, [node("n1")]) == []


TAINT = {"key": "k", "value": "v", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations(toleration: Object, tolerated: bool) -> None:
    assert (untolerated_taint([toleration], node("n", taints=[TAINT])) is None) is tolerated


def test_soft_taints_keep_nobody_away() -> None:
    assert untolerated_taint([], node("n", taints=[{**TAINT, "effect": "PreferNoSchedule"}])) is None


@pytest.mark.parametrize(
    ("operator", "values", "holds"),
    [
        ("In", ["a", "b"], True),
        ("In", ["b"], False),
        ("NotIn", ["b"], True),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
        ("Gt", ["1"], False),
        ("Unheard", [], False),
    ],
)
def test_selectors(operator: str, values: list[str], holds: bool) -> None:
    expression = {"key": "k", "operator": operator, "values": values}
    assert selects({"matchExpressions": [expression]}, {"k": "a"}) is holds
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    spec = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
    assert fits_affinity(spec, node("n", labels={"k": "a"})) is holds


def test_numbers_in_node_affinity_and_empty_terms() -> None:
    def fits(term: Object) -> bool:
        terms = {"nodeSelectorTerms": [term]}
        spec = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
        return fits_affinity(spec, node("n", labels={"cpus": "8"}))

    assert fits({"matchExpressions": [{"key": "cpus", "operator": "Gt", "values": ["4"]}]})
    assert not fits({"matchExpressions": [{"key": "cpus", "operator": "Lt", "values": ["4"]}]})
    assert not fits({"matchExpressions": [{"key": "cpus", "operator": "Gt", "values": ["many"]}]})
    assert not fits({})
    assert not selects({}, {"k": "a"})


@pytest.mark.parametrize(
    ("wanted", "taken", "collide"),
    [
        (("", "TCP", 80), ("", "TCP", 80), True),
        (("", "TCP", 80), ("10.0.0.1", "TCP", 80), True),
        (("10.0.0.1", "TCP", 80), ("::", "TCP", 80), True),
        (("10.0.0.2", "TCP", 80), ("10.0.0.1", "TCP", 80), False),
        (("", "UDP", 80), ("", "TCP", 80), False),
        (("", "TCP", 81), ("", "TCP", 80), False),
    ],
)
def test_host_ports(wanted: tuple[str, str, int], taken: tuple[str, str, int], collide: bool) -> None:
    assert ports_collide([wanted], [taken]) is collide


def test_hashes_depend_on_content_and_not_on_order() -> None:
    assert template_hash({"a": 1, "b": 2}) == template_hash({"b": 2, "a": 1})
    assert template_hash({"a": 1}) != template_hash({"a": 2})
    assert len(template_hash({})) == 10
