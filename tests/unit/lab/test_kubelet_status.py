"""A Pod's status from what its containers do."""

from __future__ import annotations

import msgspec
import pytest

from tulle.lab.kubelet.objects import Container, Pod
from tulle.lab.kubelet.records import ContainerRecord, Terminated
from tulle.lab.kubelet.restarts import CrashBackoff, again
from tulle.lab.kubelet.status import Facts, Role, View, Waiting, phase, pod_status

FACTS = Facts(True, ("10.0.0.1", "fd00::1"), ("172.30.1.11",), "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z")


def pod(**spec: object) -> Pod:
    body = {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [], **spec},
        "status": {
            "conditions": [
                {"type": "Ready", "status": "False", "lastTransitionTime": "2025-01-01T00:00:00Z"},
                {"type": "gate", "status": "False"},
            ]
        },
    }
    return msgspec.convert(body, Pod)


def ended(code: int) -> ContainerRecord:
    return ContainerRecord(id="c", attempt=1, ended=Terminated(code, "", "", "", "crun://c"))


RUNNING = ContainerRecord(id="c", pid=7, attempt=1)
FRESH = ContainerRecord()


def view(
    record: ContainerRecord,
    role: Role = "main",
    waiting: str = "",
    ready: bool = False,
    started: bool = False,
    name: str = "c",
) -> View:
    return View(role, Container(name), record, Waiting(waiting) if waiting else None, started, ready)


@pytest.mark.parametrize(
    ("policy", "views", "expected"),
    [
        ("Always", [view(FRESH, waiting="ContainerCreating")], "Pending"),
        ("Always", [view(RUNNING)], "Running"),
        ("Always", [view(ended(0))], "Running"),
        ("OnFailure", [view(ended(0))], "Succeeded"),
        ("OnFailure", [view(ended(1))], "Running"),
        ("Never", [view(ended(1))], "Failed"),
        ("Never", [view(ended(0)), view(ended(0))], "Succeeded"),
        ("Never", [view(ended(0)), view(RUNNING)], "Running"),
        ("Never", [view(ended(1), "init"), view(FRESH, waiting="PodInitializing")], "Failed"),
        ("Always", [view(ended(0), "init"), view(FRESH, waiting="ContainerCreating")], "Pending"),
        ("Always", [view(RUNNING, "sidecar"), view(FRESH, waiting="PodInitializing")], "Pending"),
        ("OnFailure", [view(RUNNING, "sidecar", started=True), view(ended(0))], "Succeeded"),
    ],
)
def test_phase(policy: str, views: list[View], expected: str) -> None:
    assert phase(pod(restartPolicy=policy), views) == expected


def conditions(status: dict[str, object]) -> dict[str, dict[str, str]]:
    found = status["conditions"]
    assert isinstance(found, list)
    return {condition["type"]: condition for condition in found}


def test_addresses_come_in_both_forms() -> None:
    status = pod_status(pod(), [view(RUNNING, ready=True)], FACTS)
    assert status["podIP"] == "10.0.0.1"
    assert status["podIPs"] == [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]
    assert status["hostIPs"] == [{"ip": "172.30.1.11"}]


def test_ready_waits_for_containers_and_gates() -> None:
    unready = conditions(pod_status(pod(), [view(RUNNING)], FACTS))
    assert unready["Ready"]["message"] == "containers with unready status: [c]"
    gated = pod(readinessGates=[{"conditionType": "gate"}])
    waiting = conditions(pod_status(gated, [view(RUNNING, ready=True)], FACTS))
    assert waiting["ContainersReady"]["status"] == "True"
    assert (waiting["Ready"]["status"], waiting["Ready"]["reason"]) == ("False", "ReadinessGatesNotReady")
    assert conditions(pod_status(pod(), [view(RUNNING, ready=True)], FACTS))["Ready"]["status"] == "True"


def test_the_transition_time_stays_while_the_status_does() -> None:
    same = conditions(pod_status(pod(), [view(RUNNING)], FACTS))["Ready"]
    assert same["lastTransitionTime"] == "2025-01-01T00:00:00Z"
    other = conditions(pod_status(pod(), [view(RUNNING, ready=True)], FACTS))["Ready"]
    assert other["lastTransitionTime"] == FACTS.now


def test_a_merge_patch_takes_an_old_reason_away() -> None:
    ready = conditions(pod_status(pod(), [view(RUNNING, ready=True)], FACTS))["Ready"]
    assert "reason" in ready
    assert ready["reason"] is None


def test_states_of_a_container() -> None:
    crashed = ContainerRecord(id="c", attempt=3, last=Terminated(1, "Error", "", "", "crun://b"))
    status = pod_status(pod(), [view(crashed, waiting="CrashLoopBackOff")], FACTS)["containerStatuses"][0]
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert status["restartCount"] == 2


@pytest.mark.parametrize(
    ("policy", "role", "code", "expected"),
    [
        ("Always", "main", 0, True),
        ("OnFailure", "main", 0, False),
        ("OnFailure", "main", 1, True),
        ("Never", "main", 1, False),
        ("Always", "init", 0, False),
        ("Always", "init", 1, True),
        ("Never", "init", 1, False),
        ("Never", "sidecar", 0, True),
    ],
)
def test_restart_policy(policy: str, role: Role, code: int, expected: bool) -> None:
    assert again(policy, role, code) is expected  # type: ignore[arg-type]


def test_crash_backoff_doubles_to_five_minutes_and_forgives_after_ten() -> None:
    backoff = CrashBackoff()
    assert [backoff.next(1) for _ in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]
    assert backoff.next(601) == 0
